"""The quality gate: whether a model may be published."""

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ..checkpoint.metadata import BITS_PER_BYTE, Comparison
from ..checkpoint.model_folder import ModelFolder

if TYPE_CHECKING:  # loads PyTorch, and verdicts are also used without a comparison
    from .paired_bootstrap import Difference


@dataclass(frozen=True)
class Verdict:
    """Whether the model may be published, the reason, and the figures if two models were compared."""

    passed: bool
    reason: str
    compared: Comparison | None = None

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


def _number(gate: str) -> float:
    found = re.search(r"[0-9.]+$", gate)
    assert found
    return float(found[0])
