import pytest

from echoself_action.training.time_estimate import TimeEstimate


@pytest.fixture
def notes() -> list[str]:
    return []


def test_the_estimate_starts_at_the_second_line_and_is_logged_when_it_changes(notes: list[str]) -> None:
    estimate = TimeEstimate(2000, 8, notes.append)
    assert estimate.seconds_per_step(10, 20.0) == 2  # the first steps are slower
    assert estimate.steps_that_fit(10, 2000, 460) == 2000
    assert notes == []
    for line, seconds_left in ((20, 456.0), (30, 452.0)):
        assert estimate.seconds_per_step(line, 16.0 + line * 0.4) == pytest.approx(0.4)
        assert estimate.steps_that_fit(line, 2000, seconds_left) == pytest.approx(1160, abs=1)
    [note] = notes
    assert note in ("about 1,160 of 2,000 steps fit in 8 minutes", "about 1,159 of 2,000 steps fit in 8 minutes")
    estimate.seconds_per_step(1030, 20 + 1020 * 0.1)
    assert estimate.steps_that_fit(1030, 2000, 460) == 2000
    assert notes[1:] == ["all 2,000 steps fit in 8 minutes"]


def test_nothing_is_logged_where_all_planned_steps_fit_or_time_is_unlimited(notes: list[str]) -> None:
    for minutes, seconds_left in ((8, 480.0), (0, float("inf"))):
        estimate = TimeEstimate(100, minutes, notes.append)
        for done in (10, 20):
            estimate.seconds_per_step(done, float(done))
            assert estimate.steps_that_fit(done, 100, seconds_left) == 100
        estimate.ends_early(100, "decaying now")
    assert notes == []


def test_a_change_of_the_plan_is_logged(notes: list[str]) -> None:
    TimeEstimate(71, 8, notes.append).ends_early(60, "decaying now")
    assert notes == ["60 of 71 steps: the time limit of 8 minutes is near; decaying now"]
