"""What tokens of each kind may do, asked of a Hub before any work."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi
from localhub import Account, LocalHub

from echoself_action.errors import HubError
from echoself_action.hub.access import access_of, require_repo_access, require_write_access
from echoself_action.hub.client import open_hub
from echoself_action.hub.repo import look_up

ACCOUNTS = {
    "owner": Account("me", owns=frozenset({"me", "my-org"})),
    "reader": Account("me", role="read", owns=frozenset({"me"})),
    "stranger": Account("stranger", owns=frozenset({"stranger"})),
    "scoped": Account("me", role="fineGrained", owns=frozenset(), resources=frozenset({"me/model", "datasets/me/words"})),
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LocalHub]:
    with LocalHub(tmp_path / "hub", accounts=ACCOUNTS) as server:
        HfApi(server.url, token="owner").create_repo("me/model")
        HfApi(server.url, token="owner").create_repo("me/other")
        yield server


def check(server: LocalHub, token: str, repo_id: str) -> str:
    """What the job logs about the token. Raises HubError if it is refused."""
    with open_hub(server.url, token) as hub:
        access = require_write_access(hub)
        require_repo_access(hub, look_up(hub, repo_id, "main"), access)
        return str(access)


@pytest.mark.parametrize(
    ("token", "repo_id", "shown"),
    [
        ("owner", "me/model", "write token of me"),
        ("owner", "me/new", "write token of me"),
        ("owner", "my-org/new", "write token of me"),
        ("scoped", "me/model", "fine-grained token of me"),
    ],
)
def test_a_token_with_access_is_accepted(server: LocalHub, token: str, repo_id: str, shown: str) -> None:
    assert check(server, token, repo_id) == shown


@pytest.mark.parametrize(
    ("token", "repo_id", "message"),
    [
        ("reader", "me/model", "The token of me is read-only"),
        ("stranger", "me/model", "The write token of stranger has no write access to me/model"),
        ("scoped", "me/other", "The fine-grained token of me has no write access to me/other"),
        ("scoped", "me/new", "the token can't create it: it is fine-grained, and may write only me/model"),
    ],
)
def test_a_token_without_access_is_refused_before_any_work(server: LocalHub, token: str, repo_id: str, message: str) -> None:
    with pytest.raises(HubError, match=message):
        check(server, token, repo_id)


def answer(role: str, scoped: list[dict[str, Any]] | None = None, name: str = "me") -> dict[str, Any]:
    token: dict[str, Any] = {"displayName": "ci", "role": role}
    if scoped is not None:
        token["fineGrained"] = {"canReadGatedRepos": False, "global": [], "scoped": scoped}
    orgs = [{"name": "writers", "roleInOrg": "contributor"}, {"name": "readers", "roleInOrg": "read"}]
    return {"name": name, "orgs": orgs, "auth": {"type": "access_token", "accessToken": token}}


def scope(kind: str, name: str | None, *permissions: str) -> dict[str, Any]:
    entity = {"_id": "1", "type": kind} | ({"name": name} if name else {})
    return {"entity": entity, "permissions": list(permissions)}


@pytest.mark.parametrize(
    ("answer", "repo_id", "creates"),
    [
        (answer("write"), "me/model", True),
        (answer("write"), "writers/model", True),
        (answer("write"), "readers/model", False),
        (answer("write"), "you/your-model", False),
        (answer("fineGrained", [scope("user", "me", "repo.content.read", "repo.write")]), "me/model", True),
        (answer("fineGrained", [scope("user", "me", "repo.content.read")]), "me/model", False),
        (answer("fineGrained", [scope("org", "writers", "repo.write")]), "me/model", False),
        (answer("fineGrained", [scope("dataset", "me/model", "repo.write")]), "me/model", False),
        (answer("fineGrained", [scope("resource-group", None, "repo.write")]), "me/model", True),  # unknown: not refused
        (answer("fineGrained"), "me/model", True),
    ],
)
def test_what_a_token_may_create(answer: dict[str, Any], repo_id: str, creates: bool) -> None:
    assert (access_of(answer).why_not_create(repo_id) == "") is creates
