"""The training state that a run leaves for the next one: runs without a gain count only in the last phase of a curriculum."""

from pathlib import Path
from typing import Any

import pytest

from echoself_action.checkpoint.model_folder import ModelFolder
from echoself_action.corpus.tokens import Tokens
from echoself_action.model.gpt2 import GPT2Config
from echoself_action.starting.next_start import FinishedRun
from echoself_action.training.init_or_resume import new_run, resume_run
from echoself_action.training.phases import Phase
from echoself_action.training.result import Callbacks, StopRequest
from echoself_action.training.run import Data
from echoself_action.training.run_end import RunEnd, converged
from echoself_action.training.trainer import train
from echoself_action.training.training_state import TrainingState, read_counters
from tests.conftest import training_settings

PHASES = (Phase("first", 0.5), Phase("second", 0.5, learning_rate=0.5))


def night(tokens: Tokens, start: ModelFolder | None, config: GPT2Config, place: Path, **changes: Any) -> ModelFolder:
    """A run without a gain; returns the checkpoint that the next one resumes from."""
    settings, data = (
        training_settings(**{"phases": PHASES, "curriculum_iters": 20, "max_iters": 10, **changes}),
        Data(tokens, []),
    )
    run = resume_run(start, data, settings, lambda _: None) if start else new_run(config, data, settings)
    train(run, place, StopRequest(), Callbacks(lambda _: None, pytest.fail))
    end = RunEnd(sound=True, gained=False, reason="")
    return FinishedRun(run, place, start, None, end, lambda: run).next_start()


def counters(folder: ModelFolder) -> TrainingState:
    found = read_counters(folder)
    assert found
    return found


def test_a_model_converges_only_in_its_last_phase_and_not_if_the_phases_changed(
    tokens: Tokens, small_config: GPT2Config, tmp_path: Path
) -> None:
    counts, start = [], None
    for _ in range(4):  # stable checkpoints at steps 8, 16, 24 and 32
        start = night(tokens, start, small_config, tmp_path)
        counts.append(counters(start).runs_without_gain)
    assert counts == [0, 0, 1, 2]
    state = counters(start)
    same = training_settings(phases=PHASES, patience=2)
    assert converged(None, state, tokens.digest, same).startswith("2 runs in a row on this corpus")
    assert converged(None, state, tokens.digest, training_settings(phases=None, patience=2)) == ""
    changed = night(tokens, start, small_config, tmp_path, phases=(*PHASES[:1], Phase("second", 0.5)))
    assert counters(changed).runs_without_gain == 1
    plain = night(tokens, None, small_config, tmp_path / "plain", phases=None, curriculum_iters=None)
    assert counters(plain).runs_without_gain == 1
