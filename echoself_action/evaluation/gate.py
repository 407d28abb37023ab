"""May this model be published? The gate that `gate` asks for, and its verdict."""

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ..checkpoint.metadata import Comparison
from ..checkpoint.model_folder import ModelFolder

if TYPE_CHECKING:  # loads PyTorch, and a verdict is read where nothing is compared
    from .paired_bootstrap import Difference


@dataclass(frozen=True)
class Verdict:
    """Whether the model may be published, and why, in one sentence; with the figures, where two models were compared."""

    passed: bool
    reason: str
    compared: Comparison | None = None


def is_relative(gate: str) -> bool:
    """Whether this gate compares with the published model."""
    return gate == "improved" or gate.startswith("not_worse")


def judge_loss(gate: str, model: ModelFolder) -> Verdict:
    """The verdict of an absolute gate: `none` lets everything pass, `max_val_loss=X` a held-out loss of at most X.

    A model whose held-out loss is unknown passes no gate. Losses are nats per token.
    """
    loss = model.metadata.val_loss if model.metadata else None
    if loss is None and gate != "none":
        return Verdict(False, f"the held-out loss of {model.path} is unknown, and the gate wants at most {_number(gate):g}")
    return judge_measured(gate, loss or 0)


def judge_measured(gate: str, loss: float) -> Verdict:
    """The same of a loss that was measured here, whatever the model's own metadata says."""
    if gate == "none":
        return Verdict(True, "no gate was asked for")
    limit = _number(gate)
    if loss > limit:
        return Verdict(False, f"the held-out loss is {loss:.4f}, and the gate wants at most {limit:g}")
    return Verdict(True, f"the held-out loss is {loss:.4f}, at most {limit:g} as the gate wants")


def judge_difference(gate: str, difference: "Difference", against: str) -> Verdict:
    """The verdict of a relative gate: the whole interval below zero (`improved`), or below a margin (`not_worse=X`).

    `against` is the commit that the published model is of.
    """
    margin = 0.0 if gate == "improved" else _number(gate)
    passed = difference.high < margin
    wanted = "better than what is published" if gate == "improved" else f"worse by less than {margin:g}"
    return Verdict(
        passed,
        f"it is {'' if passed else 'not surely '}{wanted}: {difference}",
        Comparison(against=against, **asdict(difference)),
    )


def _number(gate: str) -> float:
    found = re.search(r"[0-9.]+$", gate)
    assert found
    return float(found[0])
