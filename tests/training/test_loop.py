import json
import math
import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from echoself_action.checkpoint.find import best, checkpoints, latest
from echoself_action.checkpoint.folder import ModelFolder
from echoself_action.corpus.token_files import Tokens
from echoself_action.errors import CheckpointError, TrainingError
from echoself_action.evaluation.loss import HeldOut
from echoself_action.model.gpt2 import GPT2Config
from echoself_action.training.loop import Progress, Result, train
from echoself_action.training.run import Data, continued, fresh
from echoself_action.training.stop import StopRequest, stop_on_signals
from tests.conftest import training_settings


class StopAt(StopRequest):
    """Somebody who asks the run to stop when it has logged a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def watch(self, progress: Progress) -> None:
        self.requested = progress.step >= self.step


def ignore(_: Progress) -> None:
    pass


def train_fresh(tokens: Tokens, config: GPT2Config, output_dir: Path, **changes: Any) -> Result:
    return train(fresh(config, Data(tokens, []), training_settings(**changes)), output_dir, StopRequest(), ignore)


def train_on(tokens: Tokens, start: ModelFolder, output_dir: Path, notes: list[str] | None = None, **changes: Any) -> Result:
    say = notes.append if notes is not None else pytest.fail
    return train(continued(start, Data(tokens, []), training_settings(**changes), say), output_dir, StopRequest(), ignore)


def weights(folder: ModelFolder) -> dict[str, torch.Tensor]:
    return load_file(folder.path / "model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize("changes", [{}, {"dtype": "bfloat16"}, {"gradient_accumulation": 3}], ids=str)
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_stopped_and_resumed_run_equals_one_long_run(
    tokens: Tokens, small_config: GPT2Config, tmp_path: Path, changes: dict[str, Any], dropout: float
) -> None:
    config = replace(small_config, dropout=dropout)
    long = train_fresh(tokens, config, tmp_path / "long", **changes)
    stop = StopAt(5)
    settings = training_settings(**changes)
    stopped = train(fresh(config, Data(tokens, []), settings), tmp_path / "short", stop, stop.watch)
    assert stopped.stopped_by == "signal"
    assert stopped.latest.step == 6
    middle = train_on(tokens, stopped.latest, tmp_path / "short", max_iters=5, **changes)
    resumed = train_on(tokens, middle.latest, tmp_path / "short", max_iters=9, **changes)
    assert resumed.latest.step == long.latest.step == 20
    assert same(weights(resumed.latest), weights(long.latest))
    state = "training_state/optimizer.safetensors"
    assert same(load_file(resumed.latest.path / state), load_file(long.latest.path / state))
    assert resumed.latest.metadata
    assert long.latest.metadata
    assert resumed.latest.metadata.val_loss == long.latest.metadata.val_loss
    assert resumed.latest.metadata.tokens_seen == long.latest.metadata.tokens_seen
    assert resumed.latest.metadata.best_val_loss == min(e.val_loss for e in resumed.latest.metadata.evaluations)


def test_the_model_learns(tokens: Tokens, small_config: GPT2Config, tmp_path: Path) -> None:
    result = train_fresh(tokens, small_config, tmp_path, max_iters=60)
    assert result.latest.metadata
    assert result.latest.metadata.val_loss
    assert result.latest.metadata.val_loss < math.log(257) - 1


def test_accumulated_batches_give_the_step_of_one_large_batch(tokens: Tokens, small_config: GPT2Config, tmp_path: Path) -> None:
    one = train_fresh(tokens, small_config, tmp_path / "one", max_iters=3, learning_rate=1e-3, batch_size=8)
    cut = {"batch_size": 2, "gradient_accumulation": 4}
    four = train_fresh(tokens, small_config, tmp_path / "four", max_iters=3, learning_rate=1e-3, **cut)
    other = weights(four.latest)
    for name, tensor in weights(one.latest).items():
        torch.testing.assert_close(tensor, other[name], atol=1e-5, rtol=0)


def test_the_recorded_loss_is_that_of_the_published_weights(tokens: Tokens, small_config: GPT2Config, tmp_path: Path) -> None:
    folder = train_fresh(tokens, small_config, tmp_path, dtype="bfloat16").latest
    assert folder.metadata
    assert HeldOut(tokens.val, 32, 1024).loss(folder.load_model()) == pytest.approx(folder.metadata.val_loss, abs=1e-6)


def test_going_on_takes_additional_steps_on_a_new_schedule(tokens: Tokens, small_config: GPT2Config, tmp_path: Path) -> None:
    first = train_fresh(tokens, small_config, tmp_path)
    second = train_on(tokens, first.latest, tmp_path)
    assert (second.start_step, second.latest.step) == (20, 40)
    assert first.latest.metadata
    assert second.latest.metadata
    assert second.start_val_loss == first.latest.metadata.val_loss
    assert second.latest.metadata.run_id == first.latest.metadata.run_id
    assert second.latest.metadata.tokens_seen == 40 * 4 * 32
    assert [evaluation.step for evaluation in second.latest.metadata.evaluations] == [10, 20, 30, 40]
    rates = [json.loads(line)["lr"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert rates[4] > rates[3]


def test_without_a_training_state_it_goes_on_from_the_weights_and_says_so(
    tokens: Tokens, small_config: GPT2Config, tmp_path: Path
) -> None:
    first = train_fresh(tokens, small_config, tmp_path).latest
    shutil.rmtree(first.path / "training_state")
    notes: list[str] = []
    second = train_on(tokens, first, tmp_path, notes)
    assert "no training state: going on from its weights at step 20" in notes[0]
    assert second.latest.step == 40


def test_what_a_continuation_changes_is_said(tokens: Tokens, small_config: GPT2Config, tmp_path: Path) -> None:
    first = train_fresh(tokens, small_config, tmp_path).latest
    notes: list[str] = []
    train_on(tokens, first, tmp_path, notes, seed=2, batch_size=8)
    assert [note.split(":")[0] for note in notes] == ["seed was 1 and is now 2", "sequences_per_step was 4 and is now 8"]


def test_a_changed_corpus_is_said_and_the_start_is_evaluated_on_it(
    tokens: Tokens, small_config: GPT2Config, tmp_path: Path
) -> None:
    first = train_fresh(tokens, small_config, tmp_path).latest
    notes: list[str] = []
    other = replace(tokens, digest="other", val=tokens.val[: len(tokens.val) // 2])
    second = train_on(other, first, tmp_path, notes)
    assert notes == ["the corpus has changed: this run is not the one that would have been."]
    assert second.start_val_loss == HeldOut(other.val, 32, 1024).loss(first.load_model())


def test_a_training_state_of_other_weights_is_refused(tokens: Tokens, small_config: GPT2Config, tmp_path: Path) -> None:
    train_fresh(tokens, small_config, tmp_path)
    first, second = checkpoints(tmp_path)
    shutil.rmtree(second.path / "training_state")
    shutil.copytree(first.path / "training_state", second.path / "training_state")
    with pytest.raises(CheckpointError, match="belongs to other weights"):
        train_on(tokens, second, tmp_path)


def test_the_log_has_one_line_a_logged_step(tokens: Tokens, small_config: GPT2Config, tmp_path: Path) -> None:
    train_fresh(tokens, small_config, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [5, 10, 15, 20]
    assert ["val_loss" in line for line in lines] == [False, True, False, True]
    for line in lines:
        assert line.keys() >= {"step", "loss", "lr", "tokens_per_second", "elapsed_s"}


def test_best_latest_and_no_more_checkpoints_than_wanted_are_kept(
    tokens: Tokens, small_config: GPT2Config, tmp_path: Path
) -> None:
    result = train_fresh(tokens, small_config, tmp_path, eval_interval=2, checkpoint_interval=4, keep_checkpoints=2)
    kept = checkpoints(tmp_path)
    lowest = best(tmp_path)
    assert lowest
    assert lowest.metadata
    assert lowest.metadata.val_loss == lowest.metadata.best_val_loss
    assert result.latest.path == kept[-1].path
    assert lowest in kept
    assert len(kept) <= 2


def test_a_time_budget_ends_the_run_saved(tokens: Tokens, small_config: GPT2Config, tmp_path: Path) -> None:
    began = time.monotonic()
    result = train_fresh(tokens, small_config, tmp_path, max_iters=10**6, max_minutes=0.02, eval_interval=10**6)
    assert result.stopped_by == "max_minutes"
    assert time.monotonic() - began < 0.02 * 60 + 5
    newest = latest(tmp_path)
    assert newest
    assert newest.step == result.latest.step > 0


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_last_good_checkpoint(
    tokens: Tokens, small_config: GPT2Config, tmp_path: Path
) -> None:
    good = train_fresh(tokens, small_config, tmp_path).latest
    with pytest.raises(TrainingError, match="training was ended") as caught:
        train_on(tokens, good, tmp_path, [], learning_rate=1e30, grad_clip=0, max_iters=100)
    assert "Lower learning_rate" in caught.value.hint
    newest = latest(tmp_path)
    assert newest
    assert all(tensor.isfinite().all() for tensor in weights(newest).values())


def test_a_checkpoint_that_cant_be_written_is_said_and_those_before_stay(
    tokens: Tokens, small_config: GPT2Config, tmp_path: Path
) -> None:
    first = train_fresh(tokens, small_config, tmp_path)
    (tmp_path / "checkpoint-30").write_text("in the way")
    with pytest.raises(CheckpointError, match="checkpoint-30 could not be written"):
        train_on(tokens, first.latest, tmp_path)
    newest = latest(tmp_path)
    assert newest
    assert newest.step == 20


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_interrupts(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with stop_on_signals() as stop:
        assert not stop.requested
        os.kill(os.getpid(), number)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) == before
