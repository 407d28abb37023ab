"""Files go to a local or private Hub over LFS: huggingface_hub prefers Xet, the protocol of the public Hub."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants
from localhub import LocalHub

from echoself_action.hub.client import open_hub

from ..formats.foreign_files import nanogpt_checkpoint, save

REPO = ("--repo-id", "me/model")


@pytest.fixture(autouse=True)
def _default_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of huggingface_hub is set, as in a user's job."""
    for name in [name for name in os.environ if name.startswith("HF_HUB_")]:
        monkeypatch.delenv(name)


def run(folder: Path, *arguments: str) -> None:
    """The command line in its own process, where the program decides which module is imported first."""
    command = [sys.executable, "-m", "echoself_action", *arguments]
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr


def test_an_imported_checkpoint_is_published_to_a_folder(tmp_path: Path) -> None:
    save(nanogpt_checkpoint(), tmp_path / "ckpt.pt")
    run(tmp_path, "deploy", "--checkpoint", "ckpt.pt", "--hub", "hub", *REPO)
    run(tmp_path, "pull", "--hub", "hub", *REPO, "--output-dir", "pulled")
    assert (tmp_path / "pulled/checkpoint-7/model.safetensors").is_file()


def test_an_imported_checkpoint_is_published_to_the_url_of_a_private_hub(tmp_path: Path) -> None:
    save(nanogpt_checkpoint(), tmp_path / "ckpt.pt")
    with LocalHub(tmp_path / "hub") as server:
        run(tmp_path, "deploy", "--checkpoint", "ckpt.pt", "--hub", server.url, *REPO)


def test_xet_is_disabled_for_other_endpoints_only_and_only_while_they_are_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not constants.HF_HUB_DISABLE_XET
    with open_hub(str(tmp_path / "hub"), None):
        assert constants.HF_HUB_DISABLE_XET
    with open_hub("http://127.0.0.1:1", None):
        assert constants.HF_HUB_DISABLE_XET
    assert not constants.HF_HUB_DISABLE_XET
    with open_hub(None, None):
        assert not constants.HF_HUB_DISABLE_XET
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "0")  # a private Hub that supports Xet
    with open_hub("http://127.0.0.1:1", None):
        assert not constants.HF_HUB_DISABLE_XET
