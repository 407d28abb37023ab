"""max_minutes: a run that ends decayed and saved within its time, and is resumed from its stable checkpoint."""

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from echoself_action.checkpoint.select import branched_from, checkpoints, resumable
from echoself_action.corpus.tokens import Tokens
from echoself_action.model.gpt2 import GPT2Config
from echoself_action.training.init_or_resume import new_run, resume_run
from echoself_action.training.result import StopRequest
from echoself_action.training.run import Data, Run
from echoself_action.training.trainer import Callbacks, Progress, Result, train
from tests.conftest import training_settings

ENDLESS = {"max_iters": 10**6, "warmup": 0, "eval_interval": 10**6, "checkpoint_interval": 10**6, "log_interval": 1}


def train_run(run: Run, output_dir: Path, started: float | None = None) -> Result:
    return train(run, output_dir, StopRequest(), Callbacks(lambda _: None, pytest.fail), started)


def make_run(tokens: Tokens, config: GPT2Config, **changes: Any) -> Run:
    return new_run(config, Data(tokens, []), training_settings(**(ENDLESS | changes)))


def rates(output_dir: Path) -> list[float]:
    return [json.loads(line)["lr"] for line in (output_dir / "log.jsonl").read_text().splitlines()]


def test_time_limited_run_ends_with_a_decay_phase(tokens: Tokens, small_config: GPT2Config, tmp_path: Path) -> None:
    result = train_run(make_run(tokens, small_config, max_minutes=3 / 60), tmp_path)
    assert result.stopped_by == "max_minutes"
    facts = result.latest.metadata
    assert facts
    assert facts.branched_from
    assert facts.branch_end
    decay_start, end = facts.branched_from, facts.branch_end
    assert (end - decay_start) / end < 0.5  # about a fifth, because step times vary
    assert end - 1 <= result.latest.step <= end
    lr = rates(tmp_path)
    assert set(lr[:decay_start]) == {1e-2}
    assert lr[decay_start:] == sorted(lr[decay_start:], reverse=True)
    assert lr[-1] <= 0.5 * 1e-2
    assert facts.val_loss is not None
    assert resumable(tmp_path)[0].step == decay_start


def test_resume_after_a_time_limit_starts_from_the_stable_checkpoint_at_the_peak_rate(
    tokens: Tokens, small_config: GPT2Config, tmp_path: Path
) -> None:
    first = train_run(make_run(tokens, small_config, max_minutes=2 / 60), tmp_path)
    stable = resumable(tmp_path)[0]
    assert stable.step == branched_from(first.latest)
    settings = training_settings(**ENDLESS | {"max_iters": 20})
    second = train_run(resume_run(stable, Data(tokens, []), settings, pytest.fail), tmp_path)
    assert (second.start_step, second.latest.step) == (stable.step, stable.step + 20)
    assert second.stopped_by == "max_iters"
    assert rates(tmp_path)[-20:-4] == [1e-2] * 16


def test_a_time_limited_run_logs_how_many_of_its_steps_fit_and_when_the_plan_changes(
    tokens: Tokens, small_config: GPT2Config, tmp_path: Path
) -> None:
    notes: list[str] = []
    lines: list[Progress] = []
    run = make_run(tokens, small_config, max_minutes=3 / 60)
    result = train(run, tmp_path, StopRequest(), Callbacks(lines.append, pytest.fail, notes.append))
    assert re.fullmatch(r"about [\d,]+ of 1,000,000 steps fit in 0.05 minutes", notes[0])
    planned = rf"{result.latest.step:,} of 1,000,000 steps: the time limit of 0.05 minutes is near; decaying now"
    early = [note for note in notes if "is near" in note]
    assert len(early) == 1
    assert re.sub("^[\\d,]+", "", early[0]) == re.sub("^[\\d,]+", "", planned)
    assert lines[0].end_step == 10**6
    assert all(line.end_step < 10**6 for line in lines[1:])
    assert lines[-1].end_step == result.latest.step
    assert all(line.step <= line.end_step and line.time_left_s <= 3 for line in lines)


@pytest.mark.parametrize("spent", [0, 3600], ids=["none of it", "all of it"])
def test_too_short_time_limit_still_trains_evaluates_and_saves_one_step(
    tokens: Tokens, small_config: GPT2Config, tmp_path: Path, spent: float
) -> None:
    """For example because tokenizing the corpus took longer."""
    result = train_run(make_run(tokens, small_config, max_minutes=0.001 / 60), tmp_path, time.monotonic() - spent)
    assert result.stopped_by == "max_minutes"
    assert result.latest.step == 1
    assert result.latest.metadata
    assert result.latest.metadata.val_loss is not None
    again = resume_run(result.latest, Data(tokens, []), training_settings(**ENDLESS | {"max_iters": 5}), pytest.fail)
    assert train_run(again, tmp_path).latest.step == 6


def test_resume_with_total_iters_continues_the_cosine_decay(tokens: Tokens, small_config: GPT2Config, tmp_path: Path) -> None:
    first = train_run(make_run(tokens, small_config, max_minutes=1 / 60, total_iters=10**6), tmp_path)
    assert first.stopped_by == "max_minutes"
    assert [branched_from(folder) for folder in checkpoints(tmp_path)] == [None]
    settings = training_settings(**ENDLESS | {"max_iters": 5, "total_iters": 10**6})
    train_run(resume_run(first.latest, Data(tokens, []), settings, pytest.fail), tmp_path)
    assert rates(tmp_path) == sorted(rates(tmp_path), reverse=True)
