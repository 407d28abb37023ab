import pytest

from echoself_action.training.meters import LossMeter, SpeedMeter


def test_a_short_line_includes_the_lines_before_it_up_to_the_fewest_steps() -> None:
    meter = LossMeter(10)
    assert meter.add(7.0, 7) == 1
    assert meter.add(6.0, 3) == pytest.approx(13 / 10)
    assert meter.add(40.0, 10) == 4
    assert meter.add(9.0, 1) == pytest.approx(49 / 11)


def test_speed_counts_all_steps_of_the_run_and_nothing_else() -> None:
    speed = SpeedMeter(100)
    assert (speed.of_run, speed.seconds_per_step) == (0, 0)
    for seconds in (3.0, 1.0):
        speed.add(seconds)
    assert speed.of_line() == 50
    speed.add(2.0)
    assert speed.of_line() == 50
    assert (speed.of_run, speed.seconds_per_step) == (50, 2)
