"""Checkpoints that fail to be written, and slow ones, on real files."""

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from echoself_action.checkpoint.model_folder import check_weights
from echoself_action.checkpoint.select import checkpoints, latest
from echoself_action.corpus.tokenizer import Tokenizer
from echoself_action.corpus.tokens import Tokens
from echoself_action.errors import CheckpointError, TrainingError
from echoself_action.model.gpt2 import GPT2Config
from echoself_action.training.init_or_resume import new_run
from echoself_action.training.result import StopRequest
from echoself_action.training.run import Data, Run
from echoself_action.training.trainer import Callbacks, Progress, Result, train
from echoself_action.training.training_state import check_state
from tests.conftest import training_settings


@pytest.fixture
def run(tokens: Tokens, small_config: GPT2Config) -> Callable[..., Run]:
    def run(**changes: Any) -> Run:
        return new_run(small_config, Data(tokens, []), training_settings(**changes))

    return run


def ignore(_: Progress) -> None:
    pass


def train_run(run: Run, output_dir: Path, warnings: list[str], progress: Callable[[Progress], None] = ignore) -> Result:
    return train(run, output_dir, StopRequest(), Callbacks(progress, warnings.append))


def steps(output_dir: Path) -> list[int]:
    return [folder.step for folder in checkpoints(output_dir)]


@contextmanager
def full_disk() -> Iterator[Callable[[bool], None]]:
    """Yields a switch that limits files to 10 kB, to simulate a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield lambda full: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000 if full else before[0], before[1]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_failed_checkpoint_is_reported_and_later_checkpoints_succeed(run: Callable[..., Run], tmp_path: Path) -> None:
    warnings: list[str] = []
    good: list[int] = []
    with full_disk() as switch:

        def watch(progress: Progress) -> None:
            while progress.step == 10 and not steps(tmp_path):  # wait for the checkpoint of step 5
                time.sleep(0.01)
            switch(10 <= progress.step < 30)
            if progress.step == 25:  # the save of step 20 has failed by now, because that of step 25 waited for it
                good.extend(steps(tmp_path))

        result = train_run(run(max_iters=40, checkpoint_interval=5, decay=0, keep_checkpoints=9), tmp_path, warnings, watch)
    assert result.latest.step == latest(tmp_path).step == 40  # type: ignore[union-attr]
    assert good == [5]
    assert {15, 20}.isdisjoint(steps(tmp_path))
    assert {5, 35, 40} <= set(steps(tmp_path))
    assert "checkpoint-10 could not be written" in warnings[0]
    assert all(text.endswith("Training continues.") for text in warnings)


def test_unwritable_log_is_reported_and_training_continues(run: Callable[..., Run], tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").mkdir()
    warnings: list[str] = []
    assert train_run(run(), tmp_path, warnings).latest.step == 20
    assert "Step 5 could not be written to log.jsonl" in warnings[0]


def test_checkpoint_minutes_saves_by_the_clock(run: Callable[..., Run], tmp_path: Path) -> None:
    rare = {"max_iters": 8, "checkpoint_interval": 10**6, "eval_interval": 10**6, "decay": 0, "keep_checkpoints": 99}
    train_run(run(**rare, checkpoint_minutes=1e-9), tmp_path / "often", [])
    assert steps(tmp_path / "often") == list(range(1, 9))
    train_run(run(**rare, checkpoint_minutes=60), tmp_path / "once", [])
    assert steps(tmp_path / "once") == [8]


class SlowToSave:
    """A tokenizer whose `save` blocks until `go` is set, to simulate a slow disk."""

    def __init__(self, tokenizer: Tokenizer, go: Event) -> None:
        self.tokenizer, self.go = tokenizer, go

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tokenizer, name)

    def save(self, folder: Path, length: int) -> None:
        assert self.go.wait(60)
        self.tokenizer.save(folder, length)


def test_training_continues_while_a_checkpoint_is_written(run: Callable[..., Run], tmp_path: Path) -> None:
    """The save of step 10 finishes only after step 15 was logged, so a run that waited for it would never finish."""
    slow, go = run(checkpoint_interval=10), Event()
    slow.data = replace(slow.data, tokens=replace(slow.data.tokens, tokenizer=SlowToSave(slow.data.tokens.tokenizer, go)))
    during: list[list[int]] = []

    def watch(progress: Progress) -> None:
        if progress.step == 15:
            during.append(steps(tmp_path))
            go.set()

    result = train_run(slow, tmp_path, [], watch)
    assert during == [[]]
    assert steps(tmp_path) == [10, 16, 20]
    assert result.saving_s < result.elapsed_s


def test_asynchronous_checkpoint_has_the_weights_of_its_own_step(run: Callable[..., Run], tmp_path: Path) -> None:
    plain = run()
    train_run(plain, tmp_path / "plain", [])
    slow, go = run(checkpoint_interval=10), Event()
    slow.data = replace(slow.data, tokens=replace(slow.data.tokens, tokenizer=SlowToSave(slow.data.tokens.tokenizer, go)))
    train_run(slow, tmp_path / "slow", [], lambda progress: go.set() if progress.step == 15 else None)
    one, other = (load_file(tmp_path / name / "checkpoint-10/model.safetensors") for name in ("plain", "slow"))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    for folder in checkpoints(tmp_path / "slow"):
        check_weights(folder)
        check_state(folder)


def test_nan_weights_are_never_written(run: Callable[..., Run], tmp_path: Path) -> None:
    broken, warnings = run(checkpoint_interval=5, eval_interval=10**6), list[str]()

    def watch(progress: Progress) -> None:
        if progress.step == 10:
            next(broken.model.parameters()).data[0] = torch.nan

    with pytest.raises(TrainingError, match="checkpoint-5 is the last good checkpoint"):
        train_run(broken, tmp_path, warnings, watch)
    assert "checkpoint-10 has weights that are NaN or infinite. It was not written." in warnings[0]
    assert steps(tmp_path) == [5]
    assert not list(tmp_path.glob(".writing-*"))


def test_failure_of_the_last_checkpoint_is_an_error(run: Callable[..., Run], tmp_path: Path) -> None:
    with full_disk() as switch:

        def watch(progress: Progress) -> None:
            while progress.step == 15 and not steps(tmp_path):
                time.sleep(0.01)
            switch(progress.step >= 15)

        with pytest.raises(CheckpointError, match="checkpoint-20 could not be written"):
            train_run(run(decay=0), tmp_path, [], watch)
    assert steps(tmp_path) == [10]
