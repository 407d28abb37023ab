import pytest

from echoself_action.training.optim.schedule import cosine_schedule, plan_decay, wsd_schedule


def test_stable_phase_is_constant_after_warmup() -> None:
    schedule = wsd_schedule(0, warmup=10, peak=1.0)
    rates = [schedule.learning_rate(step) for step in range(10_000)]
    assert rates[0] == pytest.approx(1 / 11)
    assert rates[:11] == sorted(rates[:11])
    assert set(rates[10:]) == {1.0}


def test_decay_phase_falls_linearly_to_zero() -> None:
    schedule = plan_decay(wsd_schedule(0, 0, 1.0), step=100, steps=100, decay=0.2)
    rates = [schedule.learning_rate(step) for step in range(100, 200)]
    assert rates[:81] == [1.0] * 81
    assert rates[80:] == sorted(rates[80:], reverse=True)
    assert rates[90] == pytest.approx(0.5)
    assert rates[99] == pytest.approx(1 / 20)
    assert [schedule.decays_from(step) for step in (100, 180, 181, 200)] == [None, None, 180, 180]


def test_a_decay_phase_that_starts_in_the_warmup_decays_from_the_rate_that_was_reached() -> None:
    schedule = wsd_schedule(0, 100, 1.0).with_decay(30, 40)
    rates = [schedule.learning_rate(step) for step in range(41)]
    assert rates[:31] == sorted(rates[:31])
    assert rates[30:] == sorted(rates[30:], reverse=True)
    assert (rates[35], rates[40]) == (pytest.approx(rates[30] / 2), 0)


def test_decay_phase_that_has_begun_or_ends_with_this_run_is_kept() -> None:
    schedule = plan_decay(wsd_schedule(0, 0, 1.0), 0, 100, 0.2)
    assert plan_decay(schedule, 50, 50, 0.2) == schedule
    assert plan_decay(schedule, 90, 500, 0.2) == schedule
    assert plan_decay(schedule, 80, 100, 0.2).decay_start == 160


def test_without_decay_the_rate_stays_constant() -> None:
    schedule = plan_decay(wsd_schedule(0, 0, 1.0), 0, 100, 0.0)
    assert {schedule.learning_rate(step) for step in range(100)} == {1.0}
    assert schedule.decays_from(100) is None


def test_cosine_warms_up_and_decays_to_a_tenth() -> None:
    schedule = cosine_schedule(100, total=200, warmup=10, peak=1.0)
    rates = [schedule.learning_rate(step) for step in range(100, 202)]
    assert rates[0] == pytest.approx(1 / 11)
    assert rates[10] == max(rates) == 1.0
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(0.55)
    assert rates[100] == rates[101] == pytest.approx(0.1)
    assert plan_decay(schedule, 150, 20, 0.2) == schedule
    assert schedule.decays_from(180) is None
