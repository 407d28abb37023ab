import re
from collections.abc import Callable
from pathlib import Path

import pytest

from echoself_action.__main__ import main

Cli = Callable[..., dict[str, str]]

SMALL = "--n-layer 2 --n-head 2 --n-embd 16 --block-size 32 --batch-size 4 --max-iters 20 --eval-interval 10 --device cpu"
SMALL += " --learning-rate 1e-3"  # slow enough for the last step to be the best


@pytest.fixture(autouse=True)
def _impatient(short_waits: None) -> None:
    """No test of a mode is about how long it waits."""


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with some text of its own, as the current folder."""
    folder = tmp_path / "workspace"
    (folder / "docs").mkdir(parents=True)
    source = Path(__file__).parents[2] / "echoself_action"
    for module in sorted(source.glob("[ch][ou][rb]*/*.py")):  # corpus and hub: evaluations read all that is held out
        (folder / "docs" / f"{module.parent.name}-{module.stem}.md").write_text(module.read_text())
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def echoself(workspace: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """The command line; gives the outputs that a workflow would see."""

    def run(*words: str, code: int = 0) -> dict[str, str]:
        outputs = tmp_path / "outputs"
        outputs.write_text("")
        monkeypatch.setenv("GITHUB_OUTPUT", str(outputs))
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
        assert main([part for word in words for part in word.split()]) == code
        return dict(re.findall(r"(\w+)<<(?:\S+)\n(.*)\n\S+\n", outputs.read_text()))

    return run
