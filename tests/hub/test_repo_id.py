"""Names of repos are the Hub's own."""

import re
from itertools import product

import pytest
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from echoself_action.hub.repo_id import REPO, parse_source

NAMES = ["".join(parts) for length in range(1, 6) for parts in product(("a", "_", "-", ".", ".git"), repeat=length)]
OTHERS = ["", "é", "a b", "a@b", "a\n", "A1", "a" * 94, "a" * 95, "git", ".gitx", "a.git.a", "a.GIT"]


def hub_takes(repo_id: str) -> bool:
    try:
        validate_repo_id(repo_id)
    except HFValidationError:
        return False
    return len(repo_id) <= 96  # which its client holds each part to, and the Hub the whole


@pytest.mark.parametrize("repo_id", ["a", "a/b/c", "datasets/a/b", "/a", "a/"])
def test_a_repo_has_an_owner_and_a_name(repo_id: str) -> None:
    assert not re.fullmatch(REPO, repo_id)


def test_the_same_names_pass_here_and_in_the_hubs_own_client() -> None:
    for name in NAMES + OTHERS:
        for repo_id in (f"o/{name}", f"{name}/n"):
            assert bool(re.fullmatch(REPO, repo_id)) == hub_takes(repo_id), repo_id
            assert (parse_source(f"hf://datasets/{repo_id}@v1") == (repo_id, "v1")) == hub_takes(repo_id), repo_id
