"""AdamW's state in a `.pt` of another program, by the names of the parameters that it belongs to.

PyTorch numbers the parameters of an optimizer in the order in which it was given them. nanoGPT's AdamW has first those with two
dimensions, then the rest, each in the order of `named_parameters`; NanEcho's has all of them in one group.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..checkpoint.arrays import Array, is_floating_point
from .detect_layout import number
from .imported_model import HEAD, require_finite
from .torch_file.reader import TorchFile

if TYPE_CHECKING:
    from torch import Tensor

MOMENTS = ("exp_avg", "exp_avg_sq")  # AdamW's state of each parameter, besides its step count


def optimizer_order(weights: "Mapping[str, Array] | Mapping[str, Tensor]") -> tuple[list[str], list[str]]:
    """The names in each of AdamW's two groups: with weight decay, and without."""
    names = [name for name in weights if name != HEAD]
    return [name for name in names if len(weights[name].shape) > 1], [name for name in names if len(weights[name].shape) < 2]


def nanogpt_moments(file: TorchFile, weights: Mapping[str, Array], optimizer: Any) -> tuple[dict[str, Array], dict[str, Any]]:
    """AdamW's state by parameter name, and its settings. Both are empty if it has taken no step, or was not saved."""
    state = _state_of(optimizer)
    if state is None:
        return {}, {}
    decayed, rest = optimizer_order(weights)
    groups: Any = optimizer.get("param_groups")
    order = dict(enumerate([*decayed, *rest]))
    try:
        positions = [list(group["params"]) for group in groups]
        beta1, beta2 = groups[0]["betas"]
        settings = {"weight_decay": float(groups[0]["weight_decay"]), "beta1": float(beta1), "beta2": float(beta2)}
        fits = positions == [list(range(len(decayed))), list(range(len(decayed), len(order)))] and set(state) == set(order)
        found = {f"{moment}.{name}": state[i][moment] for i, name in order.items() for moment in MOMENTS}
        steps = {f"steps.{name}": number(state[i]["step"]) for i, name in order.items()}
    except (AttributeError, TypeError, KeyError, ValueError, IndexError):
        fits = False
    if not fits:
        file.refuse("has an optimizer state that does not match nanoGPT's AdamW for this model")
    _check_moments(file, found, weights)
    if any(step is None or step < 0 for step in steps.values()):
        file.refuse("has an optimizer state without a valid step count")
    return {**found, **{key: np.array(step, np.float32) for key, step in steps.items()}}, settings


def nanecho_moments(file: TorchFile, order: Sequence[str], weights: Mapping[str, Array], optimizer: Any) -> dict[str, Array]:
    """AdamW's state by parameter name; `order` is that of its parameters, which are one group.

    Parameters that never had a gradient have no state.
    """
    state = _state_of(optimizer)
    if state is None:
        return {}
    found: dict[str, Any] = {}
    counts: dict[str, Array] = {}
    try:
        fits = [list(group["params"]) for group in optimizer["param_groups"]] == [list(range(len(order)))]
        for index, entry in state.items():
            name = order[index]
            found |= {f"{moment}.{name}": entry[moment] for moment in MOMENTS}
            steps = number(entry["step"])
            fits = fits and steps is not None and steps >= 0
            counts[f"steps.{name}"] = np.array(steps or 0.0, np.float32)
    except (AttributeError, TypeError, KeyError, ValueError, IndexError):
        fits = False
    if not fits:
        file.refuse("has an optimizer state that does not match NanEcho's AdamW for this model")
    _check_moments(file, found, weights)
    return found | counts


def _state_of(optimizer: Any) -> Any:
    """The unchecked state of the parameters in an optimizer's state dict; None if it has taken no step, or is invalid."""
    state = optimizer.get("state") if isinstance(optimizer, Mapping) else None
    return None if isinstance(state, Mapping) and not state else state


def _check_moments(file: TorchFile, found: Mapping[str, Any], weights: Mapping[str, Array]) -> None:
    """Raises CheckpointError if a moment, by `<moment>.<name>`, has another shape than its parameter, or is not finite."""
    for key, tensor in found.items():
        shape = weights[key.partition(".")[2]].shape
        if not isinstance(tensor, np.ndarray) or tensor.shape != shape or not is_floating_point(tensor):
            file.refuse(f"has an optimizer state that does not match the model: {key}")
        require_finite(file, key, tensor)
