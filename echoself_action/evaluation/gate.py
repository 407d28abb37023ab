"""The quality gate: whether a model may be published."""

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ..checkpoint.metadata import BITS_PER_BYTE, Comparison
from ..checkpoint.model_folder import ModelFolder
from ..checkpoint.question_facts import QuestionComparison, QuestionScores, compared_text, percent_range

if TYPE_CHECKING:  # loads PyTorch, and verdicts are also used without a comparison
    from .paired_bootstrap import Difference


@dataclass(frozen=True)
class QuestionVerdict:
    """Whether the answers to questions pass `evaluate_gate`, the reason, and the figures if two models were compared."""

    passed: bool
    reason: str
    compared: QuestionComparison | None = None


@dataclass(frozen=True)
class Verdict:
    """Whether the loss of the model passes the gate, the reason, and the figures if two models were compared.

    `questions` is the verdict on its answers to questions, None if the gate does not need it. The model may be published if it
    `passed` both.
    """

    loss_passed: bool
    reason: str
    compared: Comparison | None = None
    questions: QuestionVerdict | None = None

    @property
    def passed(self) -> bool:
        return self.loss_passed and not self.fails_questions

    @property
    def fails_questions(self) -> bool:
        """Whether its answers to questions are the reason to refuse it."""
        return self.questions is not None and not self.questions.passed

    @property
    def full_reason(self) -> str:
        """The reasons of both verdicts."""
        return self.reason if self.questions is None else f"{self.reason}; on questions, {self.questions.reason}"

    @property
    def significantly_worse(self) -> bool:
        """Whether the model is significantly worse than the published one."""
        return self.compared is not None and self.compared.low > 0


def is_relative(gate: str) -> bool:
    """Whether this gate compares the model with the published one."""
    return gate == "improved" or gate.startswith("not_worse")


def judge_loss(gate: str, model: ModelFolder) -> Verdict:
    """The verdict of an absolute gate by the recorded loss: `none` passes every model, `max_val_loss=X` a loss of at most X.

    A model without a recorded held-out loss passes only `none`. Losses are in nats per token.
    """
    loss = model.metadata.val_loss if model.metadata else None
    if loss is None and gate != "none":
        return Verdict(False, f"the held-out loss of {model.path} is unknown, the maximum is {_number(gate):g} nats per token")
    return judge_measured(gate, loss or 0)


def judge_measured(gate: str, loss: float) -> Verdict:
    """`judge_loss` for a loss that was measured here, instead of the recorded one."""
    if gate == "none":
        return Verdict(True, "no gate is set")
    limit = _number(gate)
    if loss > limit:
        return Verdict(False, f"the held-out loss is {loss:.4f} nats per token, above the maximum of {limit:g}")
    return Verdict(True, f"the held-out loss is {loss:.4f} nats per token, within the maximum of {limit:g}")


def judge_difference(gate: str, difference: "Difference", against: str) -> Verdict:
    """The verdict of a relative gate: the upper bound of the interval is below 0 (`improved`) or a margin (`not_worse=X`).

    The interval is in bits per byte. The margin is in nats per token if both models have the same tokenizer, else in bits per
    byte. `against` is the commit of the published model.
    """
    if gate == "improved":
        passed = difference.high < 0
        reason = f"{'' if passed else 'not '}significantly better than the published model"
    else:
        margin, high = _number(gate), difference.high_nats
        passed = (difference.high if high is None else high) < margin
        unit = "bits per byte" if high is None else "nats per token"
        reason = f"{'not' if passed else 'may be'} worse than the published model by {margin:g} {unit} or more"
    compared = Comparison(against=against, unit=BITS_PER_BYTE, **asdict(difference))
    return Verdict(passed, f"{reason}: {difference}", compared)


def judge_questions(gate: str, scores: QuestionScores, compared: QuestionComparison | None = None) -> QuestionVerdict:
    """The verdict of `evaluate_gate`: `accuracy=X`, a share of at least X; or, by the comparison with the published model,
    `improved` (significantly better) or `not_worse` (not significantly worse).
    """
    if compared is None:
        accuracy, limit = scores.accuracy, _number(gate)
        reached = f"accuracy {accuracy.value:.1%} on {scores.questions:,} questions (95 % CI {percent_range(accuracy)})"
        passed = accuracy.value >= limit
        return QuestionVerdict(passed, f"{reached}, {'at least' if passed else 'less than'} {limit:.1%}")
    if gate == "improved":
        passed = compared.is_better
        reason = f"{'' if passed else 'not '}significantly better than the published model"
    else:
        passed = not compared.is_worse
        reason = f"{'not ' if passed else ''}significantly worse than the published model"
    return QuestionVerdict(passed, f"{reason}: {compared_text(compared)}", compared)


def _number(gate: str) -> float:
    found = re.search(r"[0-9.]+$", gate)
    assert found
    return float(found[0])
