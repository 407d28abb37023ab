import pytest

from echoself_action.training.schedule import plan


def test_the_rate_warms_up_to_the_peak_and_falls_to_a_tenth_of_it() -> None:
    schedule = plan(step=100, steps=100, warmup=10, peak=1.0)
    rates = [schedule.learning_rate(step) for step in range(100, 201)]
    assert rates[0] == pytest.approx(1 / 11)
    assert rates[10] == max(rates) == 1.0
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(0.55)
    assert rates[100] == pytest.approx(0.1)


def test_without_a_warmup_given_it_is_a_twentieth_of_the_run() -> None:
    assert plan(0, 200, None, 1.0).warmup == 10
    assert plan(0, 10, None, 1.0).warmup == 0
