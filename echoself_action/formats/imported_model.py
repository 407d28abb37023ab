"""What every foreign checkpoint is, once it was checked: the content of a model folder, and the arithmetic to hold it to."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..checkpoint.arrays import Array, is_finite, is_floating_point, type_name
from ..model import ModelConfig
from .registry import Origin
from .torch_file.reader import TorchFile

if TYPE_CHECKING:
    from torch import Tensor

HEAD = "lm_head.weight"
MOMENTS = ("exp_avg", "exp_avg_sq")  # what AdamW keeps of each parameter, beside its count of steps
_SHOWN = 4  # problems in a message


@dataclass(frozen=True)
class ImportedModel:
    """A checked checkpoint, under the names and in the orientation of our model; tensors are views of the mapped file.

    `moments` is AdamW's state as `training.optimizer.moments` gives it, empty where there is none. `logits` is the writer's
    own arithmetic on the writer's own tensors, in fp32: (batch, length) -> (batch, length, vocab_size). `settings` are those
    of the training, under nanoGPT's names; `vocabulary` is the tokenizer that the file itself names. `remarks` are what
    whoever uses the model has to know; `spare` are tensors that our model has no place for, and their own program wants back.
    """

    origin: Origin
    config: ModelConfig
    weights: Mapping[str, Array]
    logits: Callable[["Tensor"], "Tensor"]
    moments: Mapping[str, Array] = field(default_factory=dict)
    step: int = 0
    best_val_loss: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    vocabulary: str | None = None
    remarks: tuple[str, ...] = ()
    train_loss: float | None = None
    spare: Mapping[str, Array] = field(default_factory=dict)

    @property
    def has_state(self) -> bool:
        """Whether there is more to keep than the model."""
        return bool(self.moments or self.spare)


def check_weights(
    foreign: TorchFile, stored: Mapping[str, Array], expected: Mapping[str, tuple[int, ...]], against: str
) -> dict[str, Array]:
    """The tensors in the order of `expected`: name -> shape. Raises CheckpointError where they contradict it (`against`)."""
    problems = [f"{name} is missing" for name in expected if name not in stored]
    problems += [f"{name[:100]} is not a tensor of this model" for name in stored if name not in expected]
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


def tie(foreign: TorchFile, stored: dict[str, Array], tokens: str) -> None:
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


def check_moments(foreign: TorchFile, found: Mapping[str, Any], weights: Mapping[str, Array]) -> None:
    """Raises CheckpointError where one, by `<moment>.<name>`, is not of its parameter's shape, or holds what is no number."""
    for key, tensor in found.items():
        shape = weights[key.partition(".")[2]].shape
        if not isinstance(tensor, np.ndarray) or tensor.shape != shape or not is_floating_point(tensor):
            foreign.refuse(f"has an optimizer state that does not fit the model: {key}")
        require_numbers(foreign, key, tensor)


def require_numbers(foreign: TorchFile, name: str, tensor: Array) -> None:
    """Raises CheckpointError where the tensor holds NaN or infinity."""
    if not is_finite(tensor):
        foreign.refuse(f"has weights that are not numbers: {name} holds NaN or infinity")
    foreign.archive.release()
