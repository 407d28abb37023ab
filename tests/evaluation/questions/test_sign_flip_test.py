"""The test of two models on the same questions has the size that it promises, for few questions too."""

from itertools import product

import numpy as np
import pytest

from echoself_action.evaluation.questions.sign_flip_test import paired_difference


def test_the_p_value_counts_all_signs_of_few_differences() -> None:
    ours, theirs = [1.0, 0.5, 1.0, 0.0, 1.0, 1.0, 0.5], [0.0, 0.5, 0.5, 0.5, 0.0, 1.0, 0.0]
    differences = np.subtract(ours, theirs)
    sums = [abs(np.dot(signs, differences)) for signs in product((1, -1), repeat=7)]
    found = paired_difference(ours, theirs)
    assert found.p_value == np.mean([one >= abs(differences.sum()) - 1e-9 for one in sums])
    assert found.mean == pytest.approx(differences.mean())
    assert found.low < found.mean < found.high


@pytest.mark.parametrize("count", [6, 40])
def test_the_interval_excludes_zero_exactly_where_the_test_rejects(count: int) -> None:
    random = np.random.default_rng(1)
    rejected = []
    for shift in np.linspace(0, 0.6, 20):
        found = paired_difference((random.normal(size=count) * 0.3 + shift).tolist(), [0.0] * count)
        excludes = found.low > 0 or found.high < 0
        assert excludes == (found.p_value <= 0.05)
        rejected.append(excludes)
    assert 0 < sum(rejected) < 20


@pytest.mark.parametrize("count", [6, 20])
def test_at_most_one_of_twenty_equal_pairs_differs(count: int) -> None:
    """Where a percentile bootstrap of the same differences finds more: which is why it is not used here."""
    random = np.random.default_rng(count)
    alarms, by_bootstrap = 0, 0
    for _ in range(200):
        values = random.choice([0, 1 / 3, 2 / 3, 1], size=(2, count))
        alarms += paired_difference(*values.tolist()).p_value <= 0.05
        means = random.choice(values[0] - values[1], size=(100, count)).mean(1)
        low, high = np.quantile(means, [0.025, 0.975])
        by_bootstrap += low > 0 or high < 0
    assert alarms / 200 <= 0.05 + 2 * (0.05 * 0.95 / 200) ** 0.5
    if count == 6:
        assert by_bootstrap > alarms


def test_equal_sums_of_thirds_count_as_equal() -> None:
    """A p-value that took their rounding for a difference would be too small."""
    thirds = [1 / 3, 2 / 3, -1 / 3, 1 / 3, 2 / 3, 0, -1 / 3, 1]
    whole = [round(3 * one) for one in thirds]
    assert paired_difference(thirds, [0] * 8).p_value == paired_difference(whole, [0] * 8).p_value
    ours = [0.1 + one for one in thirds]
    assert paired_difference(ours, [0.1] * 8).p_value == paired_difference(whole, [0] * 8).p_value


def test_fewer_than_six_questions_show_nothing_and_six_can() -> None:
    found = paired_difference([1.0] * 5, [0.0] * 5)
    assert found.p_value > 0.05
    assert (found.low, found.high) == (float("-inf"), float("inf"))
    assert paired_difference([1.0] * 6, [0.0] * 6).p_value == pytest.approx(2 / 64)


def test_equal_models_have_no_difference() -> None:
    found = paired_difference([0.5] * 20, [0.5] * 20)
    assert (found.mean, found.p_value) == (0, 1)
    assert found.low <= 0 <= found.high


def test_a_comparison_needs_a_question() -> None:
    with pytest.raises(ValueError, match="at least one question"):
        paired_difference([], [])
