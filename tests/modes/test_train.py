import json
from pathlib import Path

import pytest

from echoself_action.config.load import ACTION_VARIABLE
from echoself_action.corpus import make_tokenizer

from ..conftest import SMALL, Cli, contents

TRAIN = f"train --tokenizer bytes {SMALL}"


def test_outputs_and_summary_report_the_result(echoself: Cli, workspace: Path, tmp_path: Path) -> None:
    outputs = echoself(TRAIN)
    assert outputs["checkpoint"] == outputs["model_dir"] == "echoself-model/checkpoint-20-decayed"
    assert outputs["stopped_by"] == "max_iters"
    assert outputs["commit_sha"] == ""
    summary = (tmp_path / "summary.md").read_text()
    assert summary.startswith("# Advanced to step 20: ")
    assert "```mermaid" in summary


def test_train_resumes_from_output_dir(echoself: Cli, begun: Cli) -> None:
    begun(TRAIN)
    assert echoself(TRAIN)["step"] == "36"


def test_train_resumes_from_a_given_checkpoint_and_sets_later_ones_aside(echoself: Cli, workspace: Path) -> None:
    echoself(TRAIN, "--decay 0")
    echoself(TRAIN, "--decay 0")
    outputs = echoself(TRAIN, "--checkpoint echoself-model/checkpoint-20 --max-iters 10")
    assert outputs["step"] == "30"
    assert sorted(path.name for path in workspace.glob("echoself-model/superseded-*/*")) == ["checkpoint-30", "checkpoint-40"]


def test_a_given_checkpoint_of_a_decay_phase_resumes_from_the_stable_checkpoint_before_it(
    echoself: Cli, begun: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    begun(TRAIN)
    outputs = echoself(TRAIN, "--checkpoint echoself-model/checkpoint-20-decayed --max-iters 10")
    assert outputs["checkpoint"] == "echoself-model/checkpoint-26-decayed"
    assert "steps 16-20 were the decay phase of" in capsys.readouterr().out


def test_a_tokenizer_is_trained_once_for_a_corpus(
    echoself: Cli, workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    train = f"train --tokenizer bpe:300 {SMALL} --max-iters 1"

    def trained(out: str) -> bytes:
        echoself(train, f"--output-dir {out}")
        return (workspace / out / "checkpoint-1/tokenizer.json").read_bytes()

    first = trained("first")
    with monkeypatch.context() as patch:
        patch.setattr(make_tokenizer, "train_ranks", lambda *_: pytest.fail("trained again"))
        assert trained("second") == first
    assert "tokenizer bpe:300" in capsys.readouterr().out
    (kept,) = workspace.glob(".echoself/tokens/tokenizer-*/tokenizer.json")
    kept.write_bytes(first[:1000])
    assert trained("third") == first
    assert kept.read_bytes() == first
    (workspace / "more.md").write_text("zqzq " * 5000)
    assert trained("fourth") != first


def test_inputs_of_the_action_reach_the_run(echoself: Cli, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ACTION_VARIABLE, json.dumps({"max_iters": "10", "output_dir": "there"}))
    assert echoself(TRAIN.replace("--max-iters 20", ""))["checkpoint"] == "there/checkpoint-10-decayed"


def test_a_model_card_in_the_output_folder_is_not_trained_on(
    echoself: Cli, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    echoself(TRAIN)
    first = next(line for line in capsys.readouterr().out.splitlines() if "documents" in line)
    (workspace / "echoself-model/checkpoint-20-decayed/README.md").write_text("# A card\n" * 1000)
    echoself(TRAIN)
    second = next(line for line in capsys.readouterr().out.splitlines() if "documents" in line)
    assert second == f"{first}, cached"


KEPT = ["checkpoint-10", "checkpoint-16", "checkpoint-20-decayed", "log.jsonl", "report.html"]


@pytest.mark.parametrize("change", ["--n-layer 3", "--n-embd 32", "--block-size 64", "--bias false", "--tokenizer bpe:300"])
def test_another_shape_or_tokenizer_is_refused(echoself: Cli, begun: Cli, workspace: Path, change: str) -> None:
    begun(TRAIN)
    echoself(TRAIN, change, code=2)
    assert contents(workspace / "echoself-model") == KEPT


def test_a_changed_dropout_applies_to_a_resumed_run(echoself: Cli, begun: Cli) -> None:
    begun(TRAIN)
    outputs = echoself(TRAIN, "--dropout 0.2")
    assert json.loads((Path(outputs["checkpoint"]) / "config.json").read_text())["resid_pdrop"] == 0.2
