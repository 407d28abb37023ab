"""Training in float16 with dynamic loss scaling."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from echoself_action.checkpoint.select import resumable
from echoself_action.corpus.tokens import Tokens
from echoself_action.errors import TrainingError
from echoself_action.model.gpt2 import GPT2Config
from echoself_action.training.init_or_resume import new_run, resume_run
from echoself_action.training.result import StopRequest
from echoself_action.training.run import Data, Run
from echoself_action.training.trainer import Callbacks, Result, train
from echoself_action.training.training_state import LossScale, read_state
from tests.conftest import training_settings

QUIET = Callbacks(lambda _: None, pytest.fail)


def make_run(tokens: Tokens, config: GPT2Config, **changes: Any) -> Run:
    return new_run(config, Data(tokens, []), training_settings(dtype="float16", **changes))


def trained(run: Run, place: Path) -> Result:
    return train(run, place, StopRequest(), QUIET)


def scale_of(result: Result) -> LossScale | None:
    assert result.latest.metadata
    return read_state(result.latest.path, result.latest.metadata.weights_sha256)[0].loss_scale


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_float16_has_the_validation_loss_of_float32(
    tokens: Tokens, small_config: GPT2Config, tmp_path: Path, optimizer: str
) -> None:
    run = make_run(tokens, small_config, optimizer=optimizer)
    assert run.loss_scale == LossScale(65536.0, 0)
    run.loss_scale = LossScale(1024.0)  # no gradient overflows; with the default a few steps do
    half = trained(run, tmp_path / "half")
    full = train(
        new_run(small_config, Data(tokens, []), training_settings(optimizer=optimizer)), tmp_path / "full", StopRequest(), QUIET
    )
    assert half.latest.metadata
    assert full.latest.metadata
    assert half.latest.metadata.settings["computed_in"] == "float16"
    assert half.latest.metadata.val_loss == pytest.approx(full.latest.metadata.val_loss, rel=0.01)
    assert scale_of(half) == LossScale(1024.0, 20)
    assert scale_of(full) is None


def test_overflow_halves_the_loss_scale_and_skips_the_step(tokens: Tokens, small_config: GPT2Config, tmp_path: Path) -> None:
    run = make_run(tokens, small_config, max_iters=40)
    run.loss_scale = LossScale(2.0**40)
    states = [{name: tensor.clone() for name, tensor in run.model.state_dict().items()}]

    def watch(_: object) -> None:
        states.append({name: tensor.clone() for name, tensor in run.model.state_dict().items()})

    run.settings = run.settings.model_copy(update={"log_interval": 1})
    result = train(run, tmp_path, StopRequest(), Callbacks(watch, pytest.fail))
    taken = [any(not torch.equal(tensor, now[name]) for name, tensor in was.items()) for was, now in pairwise(states)]
    assert len(taken) == 40
    assert 5 < taken.index(True) < 30
    since = taken[::-1].index(False)  # later steps may overflow too
    assert scale_of(result) == LossScale(2.0 ** (40 - taken.count(False)), since)
    assert result.latest.metadata
    assert result.latest.metadata.evaluations[-1].val_loss < result.latest.metadata.evaluations[0].val_loss


def test_loss_scale_doubles_after_2000_steps() -> None:
    scale = LossScale(8.0)
    for _ in range(1999):
        scale = scale.after_step()
    assert scale == LossScale(8.0, 1999)
    assert scale.after_step() == LossScale(16.0)
    assert scale.after_overflow() == LossScale(4.0)
    assert LossScale(1.0).after_overflow() is None


def test_nan_loss_at_any_scale_is_an_error(tokens: Tokens, small_config: GPT2Config, tmp_path: Path) -> None:
    run = make_run(tokens, small_config)
    with torch.no_grad():
        run.model.get_parameter("transformer.ln_f.weight").fill_(float("inf"))
    with pytest.raises(TrainingError, match="became nan"):
        trained(run, tmp_path)


def test_resumed_float16_run_equals_an_uninterrupted_run(tokens: Tokens, small_config: GPT2Config, tmp_path: Path) -> None:
    def scaled_run(**changes: Any) -> Run:
        run = make_run(tokens, small_config, decay=0, **changes)
        run.loss_scale = LossScale(2.0**30)
        return run

    long = trained(scaled_run(), tmp_path / "long")
    trained(scaled_run(max_iters=7), tmp_path / "parts")
    settings = training_settings(dtype="float16", decay=0, max_iters=13)
    rest = trained(resume_run(resumable(tmp_path / "parts")[0], Data(tokens, []), settings, pytest.fail), tmp_path / "parts")
    assert scale_of(rest) == scale_of(long) != LossScale(2.0**30, 20)
    one, other = (load_file(result.latest.path / "model.safetensors") for result in (long, rest))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
