"""May this model be published? The gate that `gate` asks for, and its verdict."""

from dataclasses import dataclass

from ..checkpoint.folder import ModelFolder

_ABSOLUTE = "max_val_loss="


@dataclass(frozen=True)
class Verdict:
    """Whether the model may be published, and why, in one sentence."""

    passed: bool
    reason: str


def judge(gate: str, model: ModelFolder) -> Verdict:
    """The verdict of `gate`: `none` lets everything pass, `max_val_loss=X` what has a held-out loss of at most X.

    A model whose held-out loss is unknown passes no gate. Losses are nats per token.
    """
    if gate == "none":
        return Verdict(True, "no gate was asked for")
    limit = float(gate.removeprefix(_ABSOLUTE))
    loss = model.metadata.val_loss if model.metadata else None
    if loss is None:
        return Verdict(False, f"the held-out loss of {model.path} is unknown, and the gate wants at most {limit:g}")
    if loss > limit:
        return Verdict(False, f"the held-out loss is {loss:.4f}, and the gate wants at most {limit:g}")
    return Verdict(True, f"the held-out loss is {loss:.4f}, at most {limit:g} as the gate wants")
