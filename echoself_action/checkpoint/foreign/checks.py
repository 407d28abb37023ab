"""Are a file's tensors those of the model that it declares, and numbers?"""

from collections.abc import Mapping

import torch
from torch import Tensor

from .reader import Foreign

_SHOWN = 4  # problems in a message


def check_weights(
    foreign: Foreign, stored: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], against: str
) -> dict[str, Tensor]:
    """The tensors in the order of `expected`: name -> shape. Raises CheckpointError where they contradict it (`against`)."""
    problems = [f"{name} is missing" for name in expected if name not in stored]
    problems += [f"{name[:100]} is no tensor of that model" for name in stored if name not in expected]
    problems += [
        f"{name} has the shape {tuple(stored[name].shape)} and not {shape}"
        for name, shape in expected.items()
        if name in stored and tuple(stored[name].shape) != shape
    ]
    problems += [f"{name} is of {tensor.dtype}" for name, tensor in stored.items() if not tensor.is_floating_point()]
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        foreign.refuse(f"contradicts {against}: {'; '.join(problems[:_SHOWN])}{more}")
    for name in expected:
        require_numbers(foreign, name, stored[name])
    return {name: stored[name] for name in expected}


def require_numbers(foreign: Foreign, name: str, tensor: Tensor) -> None:
    """Raises CheckpointError where the tensor holds NaN or infinity."""
    low, high = tensor.aminmax()  # NaN comes through
    if not (torch.isfinite(low) and torch.isfinite(high)):
        foreign.refuse(f"has weights that are not numbers: {name} holds NaN or infinity")
    foreign.archive.release()
