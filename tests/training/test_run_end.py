from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from echoself_action.checkpoint.metadata import Evaluation
from echoself_action.checkpoint.model_folder import ModelFolder
from echoself_action.checkpoint.select import resumable
from echoself_action.corpus.tokens import Tokens
from echoself_action.model.gpt2 import GPT2Config
from echoself_action.training.init_or_resume import new_run, resume_run
from echoself_action.training.result import Callbacks, Result, StopRequest
from echoself_action.training.run import Data, Run
from echoself_action.training.run_end import end_of
from echoself_action.training.trainer import train
from tests.conftest import training_settings


@pytest.fixture
def finished(tokens: Tokens, small_config: GPT2Config, tmp_path: Path) -> tuple[Run, ModelFolder, Result, Path]:
    """A sound run that resumed from the stable checkpoint of another one: the run, its start, its result, its folder."""
    run(tokens, None, small_config, tmp_path)
    start = resumable(tmp_path)[0]
    return *run(tokens, start, small_config, tmp_path), tmp_path


def run(tokens: Tokens, start: ModelFolder | None, config: GPT2Config, folder: Path, **changes: Any) -> tuple[Run, Any, Result]:
    settings, data = training_settings(**changes), Data(tokens, [])
    running = resume_run(start, data, settings, lambda _: None) if start else new_run(config, data, settings)
    return running, start, train(running, folder, StopRequest(), Callbacks(lambda _: None, print))


def without_gain(result: Result) -> Result:
    return replace(result, best_before=Evaluation(step=1, val_loss=0.1))


def test_a_run_that_gets_better_is_sound_and_has_gained(finished: tuple[Run, ModelFolder, Result, Path]) -> None:
    running, start, result, folder = finished
    end = end_of(running, start, result, resumable(folder)[0], "")
    assert (end.sound, end.gained, end.reason) == (True, True, "")
    assert end_of(running, start, without_gain(result), resumable(folder)[0], "").sound


def test_a_decay_phase_does_not_hide_that_the_stable_model_became_worse(
    finished: tuple[Run, ModelFolder, Result, Path], tokens: Tokens, small_config: GPT2Config, tmp_path: Path
) -> None:
    running, start, result, _ = finished
    worse = run(tokens, None, small_config, tmp_path / "worse", max_iters=1)[2].latest
    end = end_of(running, start, without_gain(result), worse, "")
    assert not end.sound
    assert end.reason.startswith("the model before the decay phase is significantly worse than at the start: ")
    assert end_of(running, start, result, worse, "").sound  # a run with a gain moves on


def test_a_run_that_ends_worse_than_it_started_is_not_sound(
    finished: tuple[Run, ModelFolder, Result, Path], tokens: Tokens, small_config: GPT2Config, tmp_path: Path
) -> None:
    running, start, result, _ = finished
    worse = run(tokens, None, small_config, tmp_path / "worse", max_iters=1)[2].latest
    end = end_of(running, start, replace(result, latest=worse), None, "")
    assert not end.sound
    assert end.reason.startswith("it ended significantly worse than it started: ")


def test_a_new_model_that_is_worse_than_guessing_is_not_sound(tokens: Tokens, small_config: GPT2Config, tmp_path: Path) -> None:
    running, _, result = run(tokens, None, small_config, tmp_path, learning_rate=3.0, max_iters=10, decay=0)
    end = end_of(running, None, result, result.latest, "")
    assert not end.sound
    assert "is above that of guessing" in end.reason
