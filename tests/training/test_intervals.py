"""How often a run evaluates, saves and logs where its settings leave that open."""

import pytest

from echoself_action.training.intervals import Intervals, fitted, intervals_of
from tests.conftest import training_settings

OPEN = training_settings(eval_interval=None, checkpoint_interval=None, log_interval=None, max_iters=None)


@pytest.mark.parametrize("seconds", [90, 480, 1800, 19800])
@pytest.mark.parametrize("step_s", [0.02, 0.1, 0.5])
def test_a_run_of_any_length_has_a_sensible_number_of_evaluations_and_log_lines(seconds: float, step_s: float) -> None:
    steps = seconds / step_s
    found = fitted(intervals_of(OPEN), OPEN, steps, step_s, seconds / 400)
    assert 10 <= steps / found.evaluate <= 50
    assert 20 <= steps / found.log <= 100
    assert steps / found.save >= 5


def test_slow_evaluations_are_fewer_but_at_least_five() -> None:
    found = fitted(intervals_of(OPEN), OPEN, 1000, 0.1, 3.0)
    assert 5 <= 1000 / found.evaluate < 13


def test_evaluations_that_would_take_most_of_a_run_are_fewer_still() -> None:
    assert fitted(intervals_of(OPEN), OPEN, 1000, 0.1, 10.0).evaluate >= 500
    assert fitted(intervals_of(OPEN), OPEN, 20, 0.1, 10.0).evaluate >= 10


def test_given_intervals_are_kept() -> None:
    settings = OPEN.model_copy(update={"eval_interval": 7, "log_interval": 3})
    found = fitted(intervals_of(settings), settings, 1000, 0.1, 0.1)
    assert (found.evaluate, found.log) == (7, 3)


def test_a_run_of_a_few_steps_has_intervals_of_at_least_one_step() -> None:
    assert fitted(intervals_of(OPEN), OPEN, 1, 1.0, 1.0) == Intervals(1, 1, 1)
