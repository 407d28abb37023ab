"""Whether two models differ on the same questions: a sign-flip permutation test of the differences by question, and the
confidence interval that belongs to it.

If the models are equal, which of the two a result of a question is from is a coin toss, so the differences keep their
distribution when signs are flipped at random (Fisher's randomization test; Noreen 1989; for NLP, Dror et al. 2018, "The
Hitchhiker's Guide to Testing Statistical Significance"). The test is exact for any number of questions; up to twelve of them
all signs are counted, else 10,000 are drawn with a fixed seed (with the correction of Phipson & Smyth 2010). A percentile
bootstrap of few questions gives intervals that are too narrow, and so finds differences that are none. With fewer than six
questions no difference can be significant at the 5 % level.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
import numpy.typing as npt

from ...checkpoint.question_facts import SIGNIFICANT, QuestionComparison, QuestionFacts

_EXACT, _DRAWS, _SEED = 12, 10_000, 0
_ROUNDING = 1e-9  # sums of thirds that are equal may differ by it
_STEPS = 60  # of the search for a bound, which halve it each


@dataclass(frozen=True)
class PairedDifference:
    """The mean of differences by question, with its 95 % confidence interval and the two-sided p-value for zero."""

    mean: float
    low: float
    high: float
    p_value: float
    questions: int


def paired_difference(ours: Sequence[float], theirs: Sequence[float]) -> PairedDifference:
    """The difference of two models in a figure for which higher is better, from its values for the same questions."""
    differences = np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)
    count = len(differences)
    if not count:
        raise ValueError("a comparison needs at least one question")
    signs = _signs(count)
    flipped, flips = signs @ differences / count, signs.mean(1)
    mean = float(differences.mean())

    def p_value(shift: float) -> float:
        """For the differences minus `shift`."""
        as_extreme = np.abs(flipped - shift * flips) >= abs(mean - shift) - _ROUNDING
        return float(as_extreme.mean())

    reach = 2 * float(np.abs(differences).max()) + 1.0
    bounds = [_bound(p_value, mean, mean + side * reach) for side in (-1, 1)]
    return PairedDifference(mean, bounds[0], bounds[1], p_value(0.0), count)


def compare_on_questions(ours: QuestionFacts, theirs: QuestionFacts, against: str) -> QuestionComparison:
    """The difference in preference of two models that were asked the same questions. `against` is the commit, or the name, of
    the second one.
    """
    found = paired_difference(ours.preferences, theirs.preferences)
    return QuestionComparison(
        against=against,
        questions=found.questions,
        candidate=ours.scores.preference.value,
        published=theirs.scores.preference.value,
        low=max(found.low, -1.0),
        high=min(found.high, 1.0),
        p_value=found.p_value,
    )


@lru_cache(maxsize=2)
def _signs(count: int) -> npt.NDArray[np.float64]:
    """All signs, or the true ones and random ones: (signs, count)."""
    if count <= _EXACT:
        return np.array(list(product((1.0, -1.0), repeat=count)))
    random = np.random.default_rng(_SEED).integers(0, 2, (_DRAWS - 1, count)) * 2.0 - 1.0
    return np.concatenate([np.ones((1, count)), random])


def _bound(p_value: Callable[[float], float], inside: float, outside: float) -> float:
    """The difference at which the test begins to reject, between one that it does not reject and one that is far away.

    It is infinite if the test never rejects: too few questions.
    """
    if p_value(outside) > SIGNIFICANT:
        return float("inf") if outside > inside else float("-inf")
    for _ in range(_STEPS):
        middle = (inside + outside) / 2
        inside, outside = (inside, middle) if p_value(middle) <= SIGNIFICANT else (middle, outside)
    return outside
