"""The results of a model on questions, and the figures that are made of them, with their 95 % confidence intervals.

The score of an answer is the pointwise mutual information of prompt and answer: log P(answer | prompt) - log P(answer), where
the second term has no prompt but the start of a document, and the speaker of a chat (Brown et al. 2020, section 2.4; Holtzman
et al. 2021, "Surface Form Competition"; `acc_mutual_info` of lm-evaluation-harness). It is the headline, because distractors
are usually answers to other questions: every text is the expected answer of one question and a distractor of others, so how
likely it is by itself says nothing about either. For answers that are equally likely to be asked for, choosing by it is Bayes'
rule: P(question | answer) is proportional to P(answer | question) / P(answer). The accuracy by likelihood per byte is reported
beside it; per byte, and not per token, it is comparable across tokenizers.

Intervals are over questions: its answers are no independent observations. Of a share of yes and no, Wilson's score interval
(Brown, Cai & DasGupta 2001), which is right for few questions too; of other means, the BCa bootstrap (Efron 1987).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from ...checkpoint.question_facts import Estimate, QuestionScores

Floats = npt.NDArray[np.float64]

RESAMPLES, _SEED = 10_000, 0
_TIE = 1e-6  # nats: a difference below it is rounding
_NORMAL = NormalDist()
_Z = _NORMAL.inv_cdf(0.975)


@dataclass(frozen=True)
class QuestionResult:
    """For each answer of a question, the references first: the log-likelihood after the prompt and without it, in nats, and its
    UTF-8 bytes. `references` is their number, `dimension` the persona dimension, "" if it has none.
    """

    given_prompt: Floats  # (answers,)
    alone: Floats
    bytes: Floats
    references: int
    dimension: str = ""
    is_trained_on: bool = False

    @property
    def correct(self) -> float:
        """1 if a reference has the highest score, 0 if not; if several answers share it, the share of references among them."""
        return self._share_of_best(self.given_prompt - self.alone)

    @property
    def correct_per_byte(self) -> float:
        """The same for the likelihood per byte."""
        return self._share_of_best(self.given_prompt / self.bytes)

    @property
    def preference(self) -> float:
        """The share of the pairs of a reference and a distractor in which the reference scores higher; a tie counts half."""
        scores = self.given_prompt - self.alone
        margins = scores[: self.references, None] - scores[None, self.references :]
        return float(np.where(margins > _TIE, 1.0, np.where(margins < -_TIE, 0.0, 0.5)).mean())

    @property
    def chance(self) -> float:
        """How often guessing is correct."""
        return self.references / len(self.bytes)

    @property
    def bits(self) -> float:
        """The loss of the references after the prompt, in bits: the mean of several."""
        return float(-self.given_prompt[: self.references].mean() / math.log(2))

    @property
    def reference_bytes(self) -> float:
        return float(self.bytes[: self.references].mean())

    def _share_of_best(self, scores: Floats) -> float:
        best = scores >= scores.max() - _TIE
        return float(best[: self.references].sum() / best.sum())


def summarised(results: Sequence[QuestionResult]) -> QuestionScores:
    """The figures of one or more results."""
    correct = np.array([one.correct for one in results])
    preferences = np.array([one.preference for one in results])
    sizes = np.column_stack([[one.bits for one in results], [one.reference_bytes for one in results]])
    return QuestionScores(
        questions=len(results),
        accuracy=_share(correct),
        chance=float(np.mean([one.chance for one in results])),
        accuracy_per_byte=float(np.mean([one.correct_per_byte for one in results])),
        preference=_mean_share(preferences),
        bits_per_byte=_estimate(sizes, lambda sums: sums[..., 0] / sums[..., 1]),
    )


def _share(values: Floats) -> Estimate:
    """A share of yes (1) and no (0) with Wilson's interval."""
    count, share = len(values), float(values.mean())
    centre = (share + _Z**2 / (2 * count)) / (1 + _Z**2 / count)
    half = _Z / (1 + _Z**2 / count) * math.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2))
    return Estimate(value=share, low=max(0.0, min(share, centre - half)), high=min(1.0, max(share, centre + half)))


def _mean_share(values: Floats) -> Estimate:
    """The mean of shares. If all are equal, resamples have no spread, and the interval is Wilson's: it is never too narrow."""
    if np.ptp(values) == 0:
        return _share(values)
    return _estimate(np.column_stack([values, np.ones(len(values))]), lambda sums: sums[..., 0] / sums[..., 1])


def _estimate(rows: Floats, figure: Callable[[Floats], Floats]) -> Estimate:
    """A figure of the sums of `rows`, (questions, 2), with its BCa interval; without one for a single question."""
    count, value = len(rows), float(figure(rows.sum(0)))
    if count < 2 or np.ptp(rows[:, 0] / rows[:, 1]) == 0:
        return Estimate(value=value, low=value, high=value)
    draws = np.random.default_rng(_SEED).multinomial(count, np.full(count, 1 / count), RESAMPLES)
    resampled = figure(draws @ rows)
    below = (np.sum(resampled < value) + 0.5 * np.sum(resampled == value)) / RESAMPLES
    bias = _NORMAL.inv_cdf(min(max(float(below), 1 / RESAMPLES), 1 - 1 / RESAMPLES))
    left_out = figure(rows.sum(0) - rows)  # jackknife
    spread = left_out.mean() - left_out
    acceleration = float((spread**3).sum() / (6 * (spread**2).sum() ** 1.5))

    def quantile(z: float) -> float:
        moved = bias + (bias + z) / (1 - acceleration * (bias + z))
        return float(np.quantile(resampled, _NORMAL.cdf(moved)))

    return Estimate(value=value, low=min(value, quantile(-_Z)), high=max(value, quantile(_Z)))
