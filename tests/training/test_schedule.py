import pytest

from echoself_action.training.optim.schedule import open_ended, over_total, planned


def test_a_line_warms_up_once_and_stays() -> None:
    line = open_ended(0, warmup=10, peak=1.0)
    rates = [line.learning_rate(step) for step in range(10_000)]
    assert rates[0] == pytest.approx(1 / 11)
    assert rates[:11] == sorted(rates[:11])
    assert set(rates[10:]) == {1.0}


def test_a_run_leaves_the_line_for_a_branch_that_decays_to_nothing() -> None:
    schedule = planned(open_ended(0, 0, 1.0), step=100, steps=100, decay=0.2)
    rates = [schedule.learning_rate(step) for step in range(100, 200)]
    assert rates[:81] == [1.0] * 81
    assert rates[80:] == sorted(rates[80:], reverse=True)
    assert rates[90] == pytest.approx(0.5)
    assert rates[99] == pytest.approx(1 / 20)
    assert [schedule.decays_from(step) for step in (100, 180, 181, 200)] == [None, None, 180, 180]


def test_a_plan_that_ends_where_this_run_ends_is_kept_and_a_branch_is_finished() -> None:
    schedule = planned(open_ended(0, 0, 1.0), 0, 100, 0.2)
    assert planned(schedule, 50, 50, 0.2) == schedule
    assert planned(schedule, 90, 500, 0.2) == schedule
    assert planned(schedule, 80, 100, 0.2).decay_start == 160


def test_without_a_decay_there_is_no_branch() -> None:
    schedule = planned(open_ended(0, 0, 1.0), 0, 100, 0.0)
    assert {schedule.learning_rate(step) for step in range(100)} == {1.0}
    assert schedule.decays_from(100) is None


def test_over_a_total_it_warms_up_and_falls_to_a_tenth_where_it_stays() -> None:
    schedule = over_total(100, total=200, warmup=10, peak=1.0)
    rates = [schedule.learning_rate(step) for step in range(100, 202)]
    assert rates[0] == pytest.approx(1 / 11)
    assert rates[10] == max(rates) == 1.0
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(0.55)
    assert rates[100] == rates[101] == pytest.approx(0.1)
    assert planned(schedule, 150, 20, 0.2) == schedule
    assert schedule.decays_from(180) is None
