"""Several models of one file in one run: each in its place, one's trouble not the others', one table over all."""

import json
from pathlib import Path

import pytest

from echoself_action.hub.client import open_hub

from ..conftest import SMALL, Cli

CONFIG = """
hub: hub
tokenizer: bytes
models:
  notes: {data: "docs/*.md", repo_id: me/notes}
  broken: {data: "none/*.md", repo_id: me/broken}
  small: {data: "docs/*.md", repo_id: me/small, n_layer: 1}
"""


@pytest.fixture
def config(workspace: Path) -> Path:
    path = workspace / ".github/echoself.yml"
    path.parent.mkdir()
    path.write_text(CONFIG)
    return path


def test_all_models_run_and_are_reported_in_one_table(
    echoself: Cli, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = echoself(f"cycle {SMALL.replace('--n-layer 2 ', '')}", code=2)
    assert [name for name, value in outputs.items() if value] == ["models"]
    of = json.loads(outputs["models"])
    assert list(of) == ["notes", "broken", "small"]
    assert of["notes"]["model_dir"].startswith("echoself-model/notes/checkpoint-")
    assert of["small"]["model_dir"].startswith("echoself-model/small/checkpoint-")
    assert (of["notes"]["deployed"], of["broken"], of["small"]["deployed"]) == ("true", {}, "true")
    with open_hub("hub", None) as hub:
        for name in ("notes", "small"):
            assert hub.api.model_info(f"me/{name}").sha == of[name]["commit_sha"]
        assert not hub.api.repo_exists("me/broken")
    summary = (tmp_path / "summary.md").read_text()
    assert summary.startswith("# 3 models: 2 published, 1 invalid input\n")
    assert summary.index("<summary>notes: ") < summary.index("<summary>broken: ") < summary.index("<summary>small: ")
    table, _, sections = summary.partition("**Next:** see what to do for `broken` below.")
    notes = of["notes"]
    bits = f"{float(notes['bits_per_byte']):.4f}"
    assert f"| `notes` | published | {bits} | [new: {notes['commit_sha'][:7]}](" in table
    assert "| `broken` | invalid input |  |  |" in table
    assert sections.count(f"### Published: {bits} bits per byte") == 1
    assert "<details open><summary>broken: invalid input</summary>" in sections
    assert "'none/*.md' matches no file" in capsys.readouterr().err


def test_a_selected_model_runs_alone(echoself: Cli, config: Path) -> None:
    outputs = echoself(f"train {SMALL} --model notes")
    assert outputs["model_dir"] == "echoself-model/notes/checkpoint-20-decayed"
    assert outputs["models"] == ""
    assert not Path("echoself-model/small").exists()


def test_no_model_runs_if_the_inputs_of_one_are_invalid(
    echoself: Cli, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(CONFIG + "  bad: {n_layr: 1, n_embd: 130}\n")
    echoself("train --n-head 4", code=2)
    message = capsys.readouterr().err
    assert "n_layr of models.bad in .github/echoself.yml: there is no such input." in message
    assert "n_embd of models.bad in .github/echoself.yml: 130 is not divisible by n_head, 4." in message
    assert not Path("echoself-model").exists()
