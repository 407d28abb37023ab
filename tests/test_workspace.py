"""The folders that a run creates in a checkout: git ignores what is in them."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from echoself_action.workspace import create_cache, create_output_dir

from .conftest import SMALL, Cli


@pytest.fixture
def untracked(workspace: Path) -> Callable[[], str]:
    """What git would add to a commit of the checkout."""
    subprocess.run(["git", "init", "-q"], check=True)
    return lambda: subprocess.run(["git", "status", "--short", "-uall"], check=True, capture_output=True, text=True).stdout


def test_git_sees_neither_the_caches_nor_the_checkpoints_of_a_run(echoself: Cli, untracked: Callable[[], str]) -> None:
    before = untracked()
    echoself(f"cycle --hub local --repo-id me/model --tokenizer bytes {SMALL}")
    assert Path("echoself-model/checkpoint-20-decayed").is_dir()
    assert Path(".echoself/hub").is_dir()
    assert untracked() == before


def test_a_folder_of_the_users_stays_as_it_is(workspace: Path) -> None:
    Path("models").mkdir()
    create_output_dir(Path("models"))
    assert list(Path("models").iterdir()) == []


def test_a_gitignore_in_the_cache_is_not_overwritten(workspace: Path) -> None:
    create_cache(Path(".echoself/tokens"))
    Path(".echoself/.gitignore").write_text("hub\n")
    create_cache(Path(".echoself/hub"))
    assert Path(".echoself/.gitignore").read_text() == "hub\n"
    assert [path.name for path in Path(".echoself").iterdir() if path.is_file()] == [".gitignore"]


def test_a_folder_that_someone_else_has_made_is_ignored_too(workspace: Path) -> None:
    Path(".echoself/demo").mkdir(parents=True)
    create_output_dir(Path(".echoself/demo/first"))
    assert Path(".echoself/.gitignore").read_text().endswith("\n*\n")
