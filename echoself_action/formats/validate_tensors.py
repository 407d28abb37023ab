"""Are a file's tensors those of the model that it declares, and numbers?"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..checkpoint.arrays import Array, is_finite, is_floating_point, type_name
from .torch_file.reader import Foreign

HEAD = "lm_head.weight"
MOMENTS = ("exp_avg", "exp_avg_sq")  # what AdamW keeps of each parameter, beside its count of steps
_SHOWN = 4  # problems in a message


def check_weights(
    foreign: Foreign, stored: Mapping[str, Array], expected: Mapping[str, tuple[int, ...]], against: str
) -> dict[str, Array]:
    """The tensors in the order of `expected`: name -> shape. Raises CheckpointError where they contradict it (`against`)."""
    problems = [f"{name} is missing" for name in expected if name not in stored]
    problems += [f"{name[:100]} is no tensor of that model" for name in stored if name not in expected]
    problems += [
        f"{name} has the shape {stored[name].shape} and not {shape}"
        for name, shape in expected.items()
        if name in stored and stored[name].shape != shape
    ]
    problems += [f"{name} is of {type_name(tensor)}" for name, tensor in stored.items() if not is_floating_point(tensor)]
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        foreign.refuse(f"contradicts {against}: {'; '.join(problems[:_SHOWN])}{more}")
    for name in expected:
        require_numbers(foreign, name, stored[name])
    return {name: stored[name] for name in expected}


def tie(foreign: Foreign, stored: dict[str, Array], tokens: str) -> None:
    """Take the head out, which is the token embedding again; of a file that has one of the two, it becomes that.

    Raises CheckpointError where it is another matrix.
    """
    head = stored.pop(HEAD, None)
    if head is not None and not np.array_equal(head, stored.setdefault(tokens, head)):
        foreign.refuse(f"has an {HEAD} that is not its {tokens}, and this model ties the two")


def state_of(optimizer: Any) -> Any:
    """What an optimizer's state dict keeps of each parameter, whatever that is; None where it has taken no step, or is none."""
    state = optimizer.get("state") if isinstance(optimizer, Mapping) else None
    return None if isinstance(state, Mapping) and not state else state


def check_moments(foreign: Foreign, found: Mapping[str, Any], weights: Mapping[str, Array]) -> None:
    """Raises CheckpointError where one, by `<moment>.<name>`, is not of its parameter's shape, or holds what is no number."""
    for key, tensor in found.items():
        shape = weights[key.partition(".")[2]].shape
        if not isinstance(tensor, np.ndarray) or tensor.shape != shape or not is_floating_point(tensor):
            foreign.refuse(f"has an optimizer state that does not fit the model: {key}")
        require_numbers(foreign, key, tensor)


def require_numbers(foreign: Foreign, name: str, tensor: Array) -> None:
    """Raises CheckpointError where the tensor holds NaN or infinity."""
    if not is_finite(tensor):
        foreign.refuse(f"has weights that are not numbers: {name} holds NaN or infinity")
    foreign.archive.release()
