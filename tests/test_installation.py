"""The command that installs localhub, by how this package was installed."""

import importlib.metadata
import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from echoself_action import installation

Installed = Callable[[dict[str, object] | None], None]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installed:
    """Installs this package into a folder, from where direct_url.json says, and not beside its sources."""

    def install(origin: dict[str, object] | None) -> None:
        info = tmp_path / "site-packages/echoself_action-0.1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: echoself-action\nVersion: 0.1.0\n")
        if origin is not None:
            (info / "direct_url.json").write_text(json.dumps(origin))
        (found,) = importlib.metadata.distributions(name="echoself-action", path=[str(info.parent)])
        real = importlib.metadata.distribution
        monkeypatch.setattr(installation, "distribution", lambda name: found if name == "echoself-action" else real(name))
        monkeypatch.setattr(installation, "__file__", str(info.parent / "echoself_action/installation.py"))

    return install


def test_from_a_folder(installed: Installed, tmp_path: Path) -> None:
    source = tmp_path / "a checkout"
    (source / "packages/localhub").mkdir(parents=True)
    (source / "packages/localhub/pyproject.toml").touch()
    installed({"url": source.as_uri(), "dir_info": {}})
    command = shlex.split(installation.localhub_command())
    assert command == [sys.executable, "-m", "pip", "install", str(source / "packages/localhub")]


def test_from_a_folder_that_is_gone(installed: Installed, tmp_path: Path) -> None:
    installed({"url": (tmp_path / "gone").as_uri(), "dir_info": {"editable": True}})
    requirement = "git+https://github.com/9cog/echoself-action#subdirectory=packages/localhub"
    assert shlex.split(installation.localhub_command())[-1] == requirement


def test_from_git_at_the_same_commit(installed: Installed) -> None:
    installed({"url": "https://github.com/me/fork.git", "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}})
    requirement = "git+https://github.com/me/fork.git@c0ffee#subdirectory=packages/localhub"
    assert shlex.split(installation.localhub_command())[-1] == requirement


def test_from_an_index_and_without_pip(installed: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(None)
    monkeypatch.setattr(installation, "has_pip", lambda: False)
    assert installation.localhub_command().startswith(f"uv pip install --python {sys.executable} ")
