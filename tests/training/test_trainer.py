import json
import math
import os
import resource
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from echoself_action.checkpoint.model_folder import ModelFolder, read_model_folder
from echoself_action.checkpoint.select import best, branched_from, checkpoints, latest, resumable
from echoself_action.checkpoint.weights import load_model
from echoself_action.corpus.tokens import Tokens
from echoself_action.errors import CheckpointError, TrainingError
from echoself_action.evaluation.loss import HeldOut
from echoself_action.model.gpt2 import GPT2Config
from echoself_action.report.report_page import read_log
from echoself_action.training.init_or_resume import new_run, resume_run
from echoself_action.training.result import StopRequest, stop_on_signals
from echoself_action.training.run import Data
from echoself_action.training.trainer import Callbacks, Progress, Result, train
from echoself_action.training.training_state import read_counters
from tests.conftest import training_settings


class StopAt(StopRequest):
    """A stop request that is set when a given step has been logged."""

    def __init__(self, step: int) -> None:
        self.step = step

    def watch(self, progress: Progress) -> None:
        self.requested = progress.step >= self.step


def ignore(_: Progress) -> None:
    pass


QUIET = Callbacks(ignore, pytest.fail)


def train_fresh(tokens: Tokens, config: GPT2Config, output_dir: Path, **changes: Any) -> Result:
    return train(new_run(config, Data(tokens, []), training_settings(**changes)), output_dir, StopRequest(), QUIET)


def train_resumed(
    tokens: Tokens, start: ModelFolder, output_dir: Path, notes: list[str] | None = None, **changes: Any
) -> Result:
    note = notes.append if notes is not None else pytest.fail
    return train(resume_run(start, Data(tokens, []), training_settings(**changes), note), output_dir, StopRequest(), QUIET)


def weights(folder: ModelFolder) -> dict[str, torch.Tensor]:
    return load_file(folder.path / "model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def stopped_and_resumed(
    tokens: Tokens, config: GPT2Config, output_dir: Path, stops: Sequence[int], **changes: Any
) -> ModelFolder:
    """Train `max_iters` steps, stopped after each of `stops` and resumed; returns the newest checkpoint."""
    settings = training_settings(**changes)
    run = new_run(config, Data(tokens, []), settings)
    for at in (*stops, settings.max_iters):
        stop = StopAt(at - 1 if at < settings.max_iters else at + 1)
        train(run, output_dir, stop, Callbacks(stop.watch, pytest.fail))
        found = resumable(output_dir, settings.max_iters - at)[0]
        assert found.step == at or at == settings.max_iters
        if at < settings.max_iters:
            run = resume_run(
                found, Data(tokens, []), settings.model_copy(update={"max_iters": settings.max_iters - at}), pytest.fail
            )
    newest = latest(output_dir)
    assert newest
    return newest


@pytest.fixture(scope="module")
def long_run(tokens: Tokens, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., ModelFolder]:
    """The last checkpoint of an uninterrupted run, cached by its settings."""
    runs: dict[str, ModelFolder] = {}

    def run(config: GPT2Config, **changes: Any) -> ModelFolder:
        key = f"{config} {changes}"
        if key not in runs:
            runs[key] = train_fresh(tokens, config, tmp_path_factory.mktemp("long"), **changes).latest
        return runs[key]

    return run


@pytest.mark.parametrize("changes", [{}, {"dtype": "bfloat16"}, {"gradient_accumulation": 3}, {"total_iters": 25}], ids=str)
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("stops", [(6, 11), (15, 17), (16,), (18,)], ids=str)
def test_resumed_run_equals_an_uninterrupted_run(
    tokens: Tokens,
    small_config: GPT2Config,
    long_run: Callable[..., ModelFolder],
    tmp_path: Path,
    changes: dict[str, Any],
    dropout: float,
    stops: Sequence[int],
) -> None:
    config = replace(small_config, dropout=dropout)
    every = {"log_interval": 1, **changes}
    long = long_run(config, **every)
    resumed = stopped_and_resumed(tokens, config, tmp_path, stops, **every)
    assert resumed.step == long.step == 20
    assert same(weights(resumed), weights(long))
    state = "training_state/optimizer.safetensors"
    assert same(load_file(resumed.path / state), load_file(long.path / state))
    assert resumed.metadata
    assert long.metadata
    assert resumed.metadata.val_loss == long.metadata.val_loss
    assert resumed.metadata.tokens_seen == long.metadata.tokens_seen


@pytest.mark.parametrize("changes", [{}, {"dtype": "bfloat16", "optimizer": "adamw"}], ids=str)
def test_resumed_run_equals_an_uninterrupted_run_on_two_cores(
    two_cores: None, tokens: Tokens, small_config: GPT2Config, tmp_path: Path, changes: dict[str, Any]
) -> None:
    config = replace(small_config, dropout=0.1)
    every = {"log_interval": 1, "gradient_accumulation": 2, **changes}
    long = train_fresh(tokens, config, tmp_path / "long", **every).latest
    resumed = stopped_and_resumed(tokens, config, tmp_path / "resumed", (6, 11), **every)
    assert same(weights(resumed), weights(long))
    state = "training_state/optimizer.safetensors"
    assert same(load_file(resumed.path / state), load_file(long.path / state))


def test_run_ends_with_a_decay_phase_and_resumes_from_the_stable_checkpoint(
    tokens: Tokens, small_config: GPT2Config, tmp_path: Path
) -> None:
    first = train_fresh(tokens, small_config, tmp_path / "a", log_interval=1)
    rates = [json.loads(line)["lr"] for line in (tmp_path / "a/log.jsonl").read_text().splitlines()]
    assert rates[1:16] == [1e-2] * 15  # warmup is 5% of 20 steps: one step
    assert rates[16:] == pytest.approx([1e-2, 0.75e-2, 0.5e-2, 0.25e-2])
    stable = resumable(tmp_path / "a")[0]
    assert (stable.step, first.latest.step) == (16, 20)
    assert first.latest.metadata
    assert (first.latest.metadata.branched_from, first.latest.metadata.branch_end) == (16, 20)
    second = train_resumed(tokens, stable, tmp_path / "a", log_interval=1)
    assert (second.start_step, second.latest.step) == (16, 36)
    assert resumable(tmp_path / "a")[0].step == 32
    # the stable phase equals that of a run without an earlier decay phase
    other = train_fresh(tokens, small_config, tmp_path / "b", max_iters=36, decay=4 / 36, warmup=1)
    assert resumable(tmp_path / "b")[0].step == 32
    assert same(weights(resumable(tmp_path / "a")[0]), weights(resumable(tmp_path / "b")[0]))
    assert same(weights(second.latest), weights(other.latest))


def test_the_stable_phase_does_not_take_the_name_of_a_decayed_checkpoint(
    tokens: Tokens, small_config: GPT2Config, tmp_path: Path
) -> None:
    decayed = train_fresh(tokens, small_config, tmp_path).latest
    train_resumed(tokens, resumable(tmp_path)[0], tmp_path, eval_interval=100, checkpoint_interval=20, keep_checkpoints=9)
    assert latest(tmp_path).step == 36  # type: ignore[union-attr]
    assert [folder.step for folder in checkpoints(tmp_path) if branched_from(folder) is None] == [10, 16, 20, 32]
    assert read_model_folder(decayed.path) in checkpoints(tmp_path)
    assert not list(tmp_path.glob("superseded-*"))


def test_a_decayed_checkpoint_keeps_its_folder_when_another_one_has_its_step(
    tokens: Tokens, small_config: GPT2Config, tmp_path: Path
) -> None:
    first = train_fresh(tokens, small_config, tmp_path).latest
    older_name = first.path.with_name("checkpoint-20")  # as older versions named it
    second = train_resumed(tokens, resumable(tmp_path)[0], tmp_path, [], max_iters=4, learning_rate=1e-3).latest
    assert (first.path.name, second.path.name) == ("checkpoint-20-decayed", "checkpoint-20-decayed-2")
    shutil.rmtree(second.path)
    first.path.rename(older_name)
    train_resumed(tokens, resumable(tmp_path)[0], tmp_path, eval_interval=100, checkpoint_interval=20, keep_checkpoints=9)
    assert weights(read_model_folder(first.path)).keys() == weights(read_model_folder(older_name)).keys()
    assert branched_from(read_model_folder(older_name)) is None


def test_validation_loss_decreases(tokens: Tokens, small_config: GPT2Config, tmp_path: Path) -> None:
    result = train_fresh(tokens, small_config, tmp_path, max_iters=60)
    assert result.latest.metadata
    assert result.latest.metadata.val_loss
    assert result.latest.metadata.val_loss < math.log(257) - 1


def test_gradient_accumulation_equals_one_large_batch(tokens: Tokens, small_config: GPT2Config, tmp_path: Path) -> None:
    one = train_fresh(tokens, small_config, tmp_path / "one", max_iters=3, learning_rate=1e-3, batch_size=8)
    cut = {"batch_size": 2, "gradient_accumulation": 4}
    four = train_fresh(tokens, small_config, tmp_path / "four", max_iters=3, learning_rate=1e-3, **cut)
    other = weights(four.latest)
    for name, tensor in weights(one.latest).items():
        torch.testing.assert_close(tensor, other[name], atol=1e-5, rtol=0)


def test_recorded_validation_loss_is_that_of_the_checkpoint(tokens: Tokens, small_config: GPT2Config, tmp_path: Path) -> None:
    folder = train_fresh(tokens, small_config, tmp_path, dtype="bfloat16").latest
    assert folder.metadata
    assert HeldOut(tokens.val, 32, 1024).loss(load_model(folder)) == pytest.approx(folder.metadata.val_loss, abs=1e-6)


def test_resume_trains_max_iters_additional_steps(tokens: Tokens, small_config: GPT2Config, tmp_path: Path) -> None:
    first = train_fresh(tokens, small_config, tmp_path)
    second = train_resumed(tokens, first.latest, tmp_path)
    assert (second.start_step, second.latest.step) == (20, 40)
    assert first.latest.metadata
    assert second.latest.metadata
    assert second.start_val_loss == first.latest.metadata.val_loss
    assert second.latest.metadata.run_id == first.latest.metadata.run_id
    assert second.latest.metadata.tokens_seen == 40 * 4 * 32
    assert [evaluation.step for evaluation in second.latest.metadata.evaluations] == [10, 20, 30, 40]


def test_resume_without_training_state_uses_the_weights_and_logs_it(
    tokens: Tokens, small_config: GPT2Config, tmp_path: Path
) -> None:
    first = train_fresh(tokens, small_config, tmp_path).latest
    shutil.rmtree(first.path / "training_state")
    notes: list[str] = []
    second = train_resumed(tokens, first, tmp_path, notes)
    assert "no training state: resuming from its weights at step 20" in notes[0]
    assert second.latest.step == 40


def test_resume_reports_changed_settings(tokens: Tokens, small_config: GPT2Config, tmp_path: Path) -> None:
    first = train_fresh(tokens, small_config, tmp_path).latest
    notes: list[str] = []
    train_resumed(tokens, first, tmp_path, notes, seed=2, batch_size=8)
    assert [note.split(":")[0] for note in notes] == ["seed was 1 and is now 2", "sequences_per_step was 4 and is now 8"]


def test_resume_with_a_changed_corpus_is_reported_and_evaluated_on_it(
    tokens: Tokens, small_config: GPT2Config, tmp_path: Path
) -> None:
    first = train_fresh(tokens, small_config, tmp_path).latest
    notes: list[str] = []
    other = replace(tokens, digest="other", val_digest="other", val=tokens.val[: len(tokens.val) // 2])
    second = train_resumed(other, first, tmp_path, notes, keep_checkpoints=9)
    assert [note.split(",")[0] for note in notes] == [
        "the corpus has changed: batches and the held-out text differ from here on"
    ]
    assert second.start_val_loss == HeldOut(other.val, 32, 1024).loss(load_model(first))


def test_resume_with_the_training_state_of_other_weights_is_an_error(
    tokens: Tokens, small_config: GPT2Config, tmp_path: Path
) -> None:
    train_fresh(tokens, small_config, tmp_path)
    first, second = checkpoints(tmp_path)[:2]
    shutil.rmtree(second.path / "training_state")
    shutil.copytree(first.path / "training_state", second.path / "training_state")
    with pytest.raises(CheckpointError, match="does not belong to the weights in"):
        train_resumed(tokens, second, tmp_path)


def test_log_has_one_line_per_logged_step(tokens: Tokens, small_config: GPT2Config, tmp_path: Path) -> None:
    train_fresh(tokens, small_config, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [5, 10, 15, 16, 20]  # step 16 is the stable checkpoint
    assert ["val_loss" in line for line in lines] == [False, True, False, False, True]
    assert all(("bits_per_byte" in line) == ("val_loss" in line) for line in lines)
    for line in lines:
        assert line.keys() >= {"step", "loss", "lr", "tokens_per_second", "elapsed_s"}


def test_train_loss_is_the_mean_of_at_least_log_interval_steps(
    tokens: Tokens, small_config: GPT2Config, tmp_path: Path
) -> None:
    """Step 16 is logged because its checkpoint is saved, one step after a line: its loss is not that of a single step."""
    train_fresh(tokens, small_config, tmp_path / "each", log_interval=1)
    each = [line["loss"] for line in read_log(tmp_path / "each/log.jsonl")]
    train_fresh(tokens, small_config, tmp_path / "some", log_interval=5)
    logged = {int(line["step"]): line["loss"] for line in read_log(tmp_path / "some/log.jsonl")}
    assert logged == pytest.approx(
        {5: mean(each[:5]), 10: mean(each[5:10]), 15: mean(each[10:15]), 16: mean(each[10:16]), 20: mean(each[15:20])}
    )
    for folder in checkpoints(tmp_path / "some"):
        assert folder.metadata
        assert folder.metadata.train_loss == logged[folder.step]


def test_all_checkpoints_of_a_run_record_its_speed_and_the_size_of_a_token(
    tokens: Tokens, small_config: GPT2Config, tmp_path: Path
) -> None:
    result = train_fresh(tokens, small_config, tmp_path, log_interval=20)
    [line] = read_log(tmp_path / "log.jsonl")[-1:]
    kept = [folder.metadata for folder in checkpoints(tmp_path)]
    assert {facts and facts.tokens_per_second for facts in kept} == {result.tokens_per_second}
    assert result.latest.metadata == kept[-1]
    assert kept[-1]
    assert kept[-1].bytes_per_token == pytest.approx(1, abs=0.01)  # the tokens are bytes; an end of text has none
    assert line["bits_per_byte"] == kept[-1].bits_per_byte
    assert line["bits_per_byte"] == pytest.approx(line["val_loss"] / math.log(2) / kept[-1].bytes_per_token)


def test_keep_checkpoints_keeps_the_best_and_the_latest(tokens: Tokens, small_config: GPT2Config, tmp_path: Path) -> None:
    result = train_fresh(tokens, small_config, tmp_path, eval_interval=2, checkpoint_interval=4, keep_checkpoints=2)
    kept = checkpoints(tmp_path)
    lowest = best(tmp_path)
    assert lowest
    assert lowest.metadata
    assert lowest.metadata.val_loss == lowest.metadata.best_val_loss
    assert result.latest.path == kept[-1].path
    assert lowest in kept
    assert len(kept) <= 2


def test_max_minutes_ends_the_run_with_a_checkpoint(tokens: Tokens, small_config: GPT2Config, tmp_path: Path) -> None:
    began = time.monotonic()
    result = train_fresh(tokens, small_config, tmp_path, max_iters=10**6, max_minutes=0.02, eval_interval=10**6)
    assert result.stopped_by == "max_minutes"
    assert time.monotonic() - began < 0.02 * 60 + 5
    newest = latest(tmp_path)
    assert newest
    assert newest.step == result.latest.step > 0


def test_nan_loss_is_an_error_and_keeps_the_last_good_checkpoint(
    tokens: Tokens, small_config: GPT2Config, tmp_path: Path
) -> None:
    good = train_fresh(tokens, small_config, tmp_path).latest
    with pytest.raises(TrainingError, match="training stopped") as caught:
        train_resumed(tokens, good, tmp_path, [], learning_rate=1e30, grad_clip=0, max_iters=100)
    assert "Lower learning_rate" in caught.value.hint
    newest = latest(tmp_path)
    assert newest
    assert all(tensor.isfinite().all() for tensor in weights(newest).values())


def test_unwritable_checkpoint_is_reported_and_earlier_ones_are_kept(
    tokens: Tokens, small_config: GPT2Config, tmp_path: Path
) -> None:
    first = train_fresh(tokens, small_config, tmp_path)
    settings, warnings = training_settings(checkpoint_interval=5), list[str]()
    run = resume_run(first.latest, Data(tokens, []), settings, pytest.fail)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))  # limits file size, to simulate a full disk
    try:
        with pytest.raises(CheckpointError, match="checkpoint-40-decayed could not be written"):
            train(run, tmp_path, StopRequest(), Callbacks(ignore, warnings.append))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "checkpoint-25 could not be written" in warnings[0]
    assert warnings[0].endswith("Training continues.")
    newest = latest(tmp_path)
    assert newest
    assert newest.step == 20


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_requests_a_stop_and_the_second_interrupts(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with stop_on_signals() as stop:
        assert not stop.requested
        os.kill(os.getpid(), number)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) == before


MEMORISED = {"max_iters": 400, "eval_interval": 5, "learning_rate": 1e-2, "checkpoint_interval": 1000, "warmup": 5}


def with_little_text(tokens: Tokens) -> Tokens:
    """So few training tokens that a model memorises them within some steps."""
    return replace(tokens, train=tokens.train[:200].copy())


def test_a_run_that_memorises_goes_back_to_its_lowest_loss_and_decays_from_there(
    tokens: Tokens, small_config: GPT2Config, tmp_path: Path
) -> None:
    warnings: list[str] = []
    evaluated: list[Progress] = []
    run = new_run(small_config, Data(with_little_text(tokens), []), training_settings(**MEMORISED))
    result = train(run, tmp_path / "out", StopRequest(), Callbacks(evaluated.append, warnings.append))
    assert result.stopped_by == "early_stopping"
    (warning,) = warnings
    assert warning.startswith("Memorising: validation loss ")
    branch = branched_from(result.latest)
    assert branch
    assert f"The run goes back to step {branch}, decays from there and ends early." in warning
    evaluated = [one for one in evaluated if one.val_loss is not None]
    turn = next(i for i, (one, following) in enumerate(pairwise(evaluated)) if following.step <= one.step)
    stable = evaluated[: turn + 1]
    lowest = min(stable, key=lambda one: one.val_loss or 0)
    assert lowest.step == branch
    above = [(one.val_loss or 0) > 1.01 * (lowest.val_loss or 0) for one in stable if one.step >= branch]
    assert above[-2:] == [True, True]
    assert not any(first and second for first, second in pairwise(above[:-1]))
    assert result.latest.step == branch + max(1, round(branch * run.settings.decay / (1 - run.settings.decay)))
    assert run.schedule.learning_rate(result.latest.step) == 0
    assert [one.step for one in run.evaluations] == sorted({one.step for one in run.evaluations})


def test_a_planned_decay_phase_starts_from_the_lowest_loss(tokens: Tokens, small_config: GPT2Config, tmp_path: Path) -> None:
    data, evaluated = Data(with_little_text(tokens), []), list[Progress]()
    run = new_run(small_config, data, training_settings(**MEMORISED | {"early_stopping": 0.0}))
    train(run, tmp_path / "whole", StopRequest(), Callbacks(evaluated.append, ignore))
    losses = {one.step: one.val_loss for one in evaluated if one.val_loss is not None}
    lowest = min(losses, key=lambda step: losses[step])
    above = next(step for step in losses if step > lowest and losses[step] > 1.01 * losses[lowest])
    # the decay phase is planned after the first evaluation above the lowest, and before the second one
    settings = training_settings(**MEMORISED | {"max_iters": round((above + 2) / 0.8), "decay": 0.2})
    result = train(new_run(small_config, data, settings), tmp_path / "out", StopRequest(), Callbacks(ignore, ignore))
    assert branched_from(result.latest) == lowest
    assert result.stopped_by == "early_stopping"
    assert resumable(tmp_path / "out")[0].step == lowest


def test_the_state_that_a_run_goes_back_to_is_exact(tokens: Tokens, small_config: GPT2Config, tmp_path: Path) -> None:
    data = Data(with_little_text(tokens), [])
    run = new_run(small_config, data, training_settings(**MEMORISED))
    result = train(run, tmp_path / "out", StopRequest(), Callbacks(ignore, ignore))
    stable = resumable(tmp_path / "out")[0]
    assert stable.step == branched_from(result.latest)

    short = training_settings(**MEMORISED | {"max_iters": stable.step, "early_stopping": 0.0, "decay": 0.0})
    same = train(new_run(small_config, data, short), tmp_path / "short", StopRequest(), Callbacks(ignore, ignore)).latest
    assert same.step == stable.step
    for name in ("model.safetensors", "training_state/optimizer.safetensors"):
        assert (stable.path / name).read_bytes() == (same.path / name).read_bytes()
    before, after = read_counters(same), read_counters(stable)
    assert before
    assert after
    assert (after.sequences_seen, after.rollbacks) == (before.sequences_seen, before.rollbacks)

    rest = training_settings(**MEMORISED | {"max_iters": result.latest.step - stable.step})
    again = train(resume_run(stable, data, rest, ignore), tmp_path / "again", StopRequest(), Callbacks(ignore, ignore)).latest
    assert (again.path / "model.safetensors").read_bytes() == (result.latest.path / "model.safetensors").read_bytes()


def test_early_stopping_can_be_disabled(tokens: Tokens, small_config: GPT2Config, tmp_path: Path) -> None:
    result = train_fresh(with_little_text(tokens), small_config, tmp_path, **MEMORISED, early_stopping=0)
    assert (result.stopped_by, result.latest.step) == ("max_iters", 400)
