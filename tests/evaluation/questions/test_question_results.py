"""The figures of results, and their intervals."""

import math

import numpy as np
import pytest

from echoself_action.evaluation.questions import question_results
from echoself_action.evaluation.questions.question_results import QuestionResult, summarised


def result(given: list[float], alone: list[float] | None = None, references: int = 1, size: float = 4) -> QuestionResult:
    alone = alone or [0.0] * len(given)
    return QuestionResult(np.array(given), np.array(alone), np.full(len(given), size), references)


def test_an_answer_that_is_likely_without_the_question_has_no_advantage() -> None:
    common = result([-10.0, -5.0], alone=[-20.0, -5.0])
    assert (common.correct, common.preference) == (1, 1)
    assert common.correct_per_byte == 0


def test_ties_count_as_guessing() -> None:
    tied = result([-1.0, -1.0, -1.0, -3.0])
    assert tied.correct == pytest.approx(1 / 3)
    assert tied.preference == pytest.approx((0.5 + 0.5 + 1) / 3)
    assert tied.chance == 0.25


def test_the_best_of_several_references_is_enough_and_pairs_are_of_all() -> None:
    several = result([-1.0, -9.0, -5.0, -6.0], references=2)
    assert (several.correct, several.preference, several.chance) == (1, 0.5, 0.5)
    assert several.bits == pytest.approx(5 / math.log(2))


def test_bits_per_byte_is_of_all_references_together() -> None:
    one, two = result([-math.log(2) * 8, -1.0], size=4), result([-math.log(2) * 2, -1.0], size=1)
    assert summarised([one, two]).bits_per_byte.value == pytest.approx(10 / 5)


def test_the_interval_of_a_share_is_wilsons() -> None:
    figures = summarised([result([-1.0, -2.0])] * 8 + [result([-2.0, -1.0])] * 2)
    assert figures.accuracy.value == 0.8
    assert (figures.accuracy.low, figures.accuracy.high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    sure = summarised([result([-1.0, -2.0])] * 10)
    assert (sure.accuracy.high, sure.preference.high) == (1, 1)
    assert sure.accuracy.low == sure.preference.low == pytest.approx(0.7225, abs=1e-4)


def test_intervals_cover_the_truth_about_as_often_as_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss and the preference of 25 questions, whose true means are known."""
    monkeypatch.setattr(question_results, "RESAMPLES", 1000)
    random = np.random.default_rng(1)
    covered = {"preference": 0, "bits_per_byte": 0}
    for _ in range(60):
        losses = random.gamma(2.0, 2.0, 25)
        beaten = random.random((25, 3)) < 0.7
        results = [result([-loss, *(-loss + np.where(one, -1.0, 1.0))]) for loss, one in zip(losses, beaten, strict=True)]
        found = summarised(results)
        covered["preference"] += found.preference.low <= 0.7 <= found.preference.high
        covered["bits_per_byte"] += found.bits_per_byte.low <= 4 / 4 / math.log(2) <= found.bits_per_byte.high
    assert min(covered.values()) >= 52  # of 60, of which 57 are expected


def test_a_single_question_has_no_interval_of_its_loss() -> None:
    figures = summarised([result([-1.0, -2.0])])
    assert figures.bits_per_byte.low == figures.bits_per_byte.value == figures.bits_per_byte.high
    assert figures.accuracy.low < 0.3
