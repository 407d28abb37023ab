"""A new model's sizes and tokenizer: `preset: auto`, from nothing but text and a time, and what is given explicitly."""

import json
from pathlib import Path
from typing import Any

import pytest

from echoself_action.checkpoint.model_folder import ModelFolder, read_model_folder
from echoself_action.checkpoint.select import latest
from echoself_action.config.inputs import DEFAULT_CONFIG
from echoself_action.training.auto_preset import run_settings

from ..conftest import SMALL, Cli

CPU = "--device cpu"
QUICK = f"{CPU} --max-iters 2 --log-interval 1"


def newest(output_dir: str = "echoself-model") -> ModelFolder:
    found = latest(Path(output_dir))
    assert found
    return found


def settings_of(folder: ModelFolder) -> dict[str, Any]:
    assert folder.metadata
    return folder.metadata.settings


def test_text_and_a_time_are_enough_and_the_choice_is_printed_kept_and_resumed(
    echoself: Cli, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = echoself(f"train --max-minutes 0.1 {CPU}")
    assert first["stopped_by"] == "max_minutes"
    printed = capsys.readouterr().out
    config = newest().config
    (line,) = [line for line in printed.splitlines() if line.startswith("auto: ")]
    assert f"{config.n_layer} layers, width {config.n_embd}, bpe:{config.vocab_size}, block {config.block_size}" in line
    assert "KB of text, 0.1 minutes and about" in line
    facts = newest().metadata
    assert facts
    assert facts.val_loss is not None
    expected = run_settings(config, "muon", None)
    assert {name: settings_of(newest())[name] for name in expected} == expected
    echoself(f"train --max-minutes 0.05 {CPU}")
    printed = capsys.readouterr().out
    assert newest().config == config
    assert {name: settings_of(newest())[name] for name in expected} == expected
    assert "resuming at step" in printed
    assert "and is now" not in printed
    assert "auto: " not in printed.replace("dtype: auto", "")


def test_the_planned_end_of_a_time_limited_run_is_what_fits(echoself: Cli, workspace: Path) -> None:
    echoself(f"train --max-minutes 0.08 --n-layer 1 --n-embd 32 --block-size 32 {CPU}")
    lines = [json.loads(line) for line in Path("echoself-model/log.jsonl").read_text().splitlines()]
    step = lines[-1]["step"]
    assert lines[-1]["end_step"] == step
    assert all(line["end_step"] < 10 * step for line in lines)


def test_explicit_inputs_win(echoself: Cli, workspace: Path) -> None:
    given = "--tokenizer bytes --n-layer 1 --n-embd 96 --block-size 48 --dropout 0.3 --batch-size 3 --weight-decay 0.7"
    outputs = echoself(f"train {given} --decay 0.5 --warmup 1 --eval-interval 1 --learning-rate 0.003 {QUICK}")
    assert (outputs["step"], outputs["stopped_by"]) == ("2", "max_iters")
    config = newest().config
    assert (config.n_layer, config.n_embd, config.block_size, config.dropout) == (1, 96, 48, 0.3)
    assert (config.vocab_size, config.n_embd % config.n_head) == (257, 0)
    kept = settings_of(newest())
    names = ("batch_size", "weight_decay", "decay", "warmup", "eval_interval", "learning_rate")
    assert [kept[name] for name in names] == [3, 0.7, 0.5, 1, 1, 0.003]


def test_a_model_of_another_preset_keeps_its_shape_and_the_log_says_what_differs(
    echoself: Cli, begun: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    begun(f"train --tokenizer bytes {SMALL}")
    before = newest().config
    capsys.readouterr()
    echoself(f"train {QUICK}")
    assert newest().config == before
    assert "sequences_per_step was 4 and is now 64" in capsys.readouterr().out


def test_a_nanecho_is_sized_too_without_the_text_that_no_phase_reads(
    echoself: Cli, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(DEFAULT_CONFIG).parent.mkdir()
    Path(DEFAULT_CONFIG).write_text("phases: [{name: all, weights: {docs/scene-0*.md: 0}, connections: 0.2}]\n")
    echoself(f"train --architecture nanecho --n-layer 2 --introspection false {QUICK}")
    folder = newest()
    assert folder.architecture.name == "nanecho"
    assert folder.config.n_embd % 4 == 0
    assert settings_of(folder)["optimizer"] == "adamw"
    log = capsys.readouterr().out
    assert "because of 129 KB of text" in log  # of 174 KB
    assert " epochs a run (an epoch: the text that phases read, once; weights repeat some of it); sized for" in log


@pytest.mark.parametrize("preset", ["ci", "auto"])
def test_the_tokenizer_of_a_new_model_fits_the_corpus(echoself: Cli, workspace: Path, preset: str) -> None:
    echoself(f"train --preset {preset} --n-layer 1 --n-embd 32 --n-head 1 --block-size 32 {QUICK}")
    facts = newest().metadata
    assert facts
    assert facts.tokenizer
    assert facts.tokenizer.name == "bpe:4096"
    assert read_model_folder(newest().path).config.vocab_size == 4096


def test_two_kilobytes_of_text_are_enough(echoself: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny").mkdir()
    monkeypatch.chdir(tmp_path / "tiny")
    for number in range(20):
        Path(f"{number}.md").write_text(
            f"Note {number}: the {number * 7}th line of a small notebook, about {number} things.\n\n" * 2
        )
    echoself(f"train {QUICK}")
    assert 8 <= newest().config.block_size <= 128
    assert newest().config.vocab_size < 512


def test_fifty_bytes_of_text_are_reported_as_too_few(
    echoself: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny").mkdir()
    monkeypatch.chdir(tmp_path / "tiny")
    Path("a.md").write_text("Only one short document, which is not enough.")
    echoself(f"train {QUICK}", code=2)
    error = capsys.readouterr().err
    assert "Add more documents" in error or "Add text" in error
