import functools
import os
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from echoself_action.__main__ import main

from ..conftest import SCENES

Cli = Callable[..., dict[str, str]]
Left = Callable[..., tuple[Path, dict[str, str]]]

SMALL = "--n-layer 2 --n-head 2 --n-embd 16 --block-size 32 --batch-size 4 --max-iters 20 --eval-interval 10 --device cpu"
SMALL += " --learning-rate 1e-3"  # slow enough for the last step to be the best
DOCUMENTS = {scene.name: scene for scene in SCENES}


@pytest.fixture(autouse=True)
def _impatient(short_waits: None) -> None:
    """No test of a mode is about how long it waits."""


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with some text of its own, as the current folder."""
    folder = tmp_path / "workspace"
    write_documents(folder, DOCUMENTS)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def echoself(workspace: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """The command line; gives the outputs that a workflow would see."""
    return command_line(monkeypatch, tmp_path)


@pytest.fixture
def begun(workspace: Path, left_by: Left) -> Cli:
    """What commands leave in the workspace, and the outputs of the last: for those that a test begins with and is not about.

    They are run once for all tests, over the documents that are here, and what they leave is copied.
    """

    def begin(*commands: str) -> dict[str, str]:
        folder, outputs = left_by(tuple(sorted(path.name for path in Path("docs").iterdir())), *commands)
        shutil.copytree(folder, workspace, dirs_exist_ok=True)
        return dict(outputs)

    return begin


@pytest.fixture(scope="session")
def left_by(tmp_path_factory: pytest.TempPathFactory) -> Left:
    """A workspace with these documents after these commands, which nobody may change, and the outputs of the last."""

    @functools.cache
    def run(documents: tuple[str, ...], *commands: str) -> tuple[Path, dict[str, str]]:
        folder = tmp_path_factory.mktemp("left") / "workspace"
        if before := commands[:-1]:
            shutil.copytree(run(documents, *before)[0], folder)
        else:
            write_documents(folder, documents)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            for name in [name for name in os.environ if name.startswith(("GITHUB_", "ACTIONS_", "HF_TOKEN"))]:
                patch.delenv(name)  # whichever test asks first: what it says of its job is not for others
            return folder, command_line(patch, folder.parent)(commands[-1])

    return run


def write_documents(folder: Path, names: Iterable[str]) -> None:
    (folder / "docs").mkdir(parents=True)
    for name in sorted(names):
        (folder / "docs" / name).write_text(DOCUMENTS[name].read_text())


def command_line(patch: pytest.MonkeyPatch, place: Path) -> Cli:
    """The command line, with the files of its job in `place`."""

    def run(*words: str, code: int = 0) -> dict[str, str]:
        outputs = place / "outputs"
        outputs.write_text("")
        patch.setenv("GITHUB_OUTPUT", str(outputs))
        patch.setenv("GITHUB_STEP_SUMMARY", str(place / "summary.md"))
        assert main([part for word in words for part in word.split()]) == code
        return dict(re.findall(r"(\w+)<<(?:\S+)\n(.*)\n\S+\n", outputs.read_text()))

    return run
