"""A checkpoint of another program after its checks: the content of a model folder, and the logits to compare it with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import numpy as np

from ..checkpoint.arrays import Array, is_finite, is_floating_point, type_name
from ..model import ModelConfig
from ..model.config import Activation
from .registry import Origin

if TYPE_CHECKING:
    from torch import Tensor

HEAD = "lm_head.weight"
_SHOWN = 4  # problems in a message
_PARTS = "Only a model without other parts can be imported: an adapter must be merged, and another architecture can't be used."
_QUANTISED = "Use the weights from before they were quantised."
_INCOMPLETE = "If they were left out, save the whole of model.state_dict(). A model that never had them can't be imported."
CONTRADICTION = "Use the file as its trainer wrote it: either the tensors or the recorded sizes are those of another model."
_TIED = "Only a model whose output head is its token embedding can be imported, as those of nanoGPT, OpenAI and NanEcho."


class TensorSource(Protocol):
    """What is checked: the tensors of a `.pt`, or of the files in a folder of transformers."""

    @property
    def weights(self) -> Mapping[str, Array]:
        """The tensors by their names in the file."""

    def refuse(self, why: str, *hint: str) -> NoReturn:
        """Raises CheckpointError. `hint` says what to change."""

    def release(self) -> None:
        """Let go of the pages of a mapped file."""


@dataclass(frozen=True)
class Given:
    """What the user gave for files that do not record it: the inputs `n_head` and `activation`."""

    n_head: int | None = None
    activation: Activation | None = None


NOTHING_GIVEN = Given()


@dataclass(frozen=True)
class ImportedModel:
    """A checked checkpoint, with the names and the orientation of our model; tensors are views of the mapped file.

    `moments` is AdamW's state in the form of training_state, empty if there is none. `logits` is the original program's forward
    pass on its own tensors, in fp32: (batch, length) -> (batch, length, vocab_size). `settings` are the training settings under
    nanoGPT's names; `vocabulary` is the tokenizer that the file names. `remarks` are notes for users of the model. `spare` are
    tensors that our model does not have, kept for an export to the original program. `assumptions` are about the forward pass,
    where the file states nothing. `optimizer_notes` say why an optimizer state was not imported, or what about it is not as it
    was.
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
    assumptions: tuple[str, ...] = ()
    optimizer_notes: tuple[str, ...] = ()

    @property
    def has_state(self) -> bool:
        """Whether there is state to store besides the model."""
        return bool(self.moments or self.spare)


def check_weights(
    file: TensorSource, stored: Mapping[str, Array], expected: Mapping[str, tuple[int, ...]], against: str
) -> dict[str, Array]:
    """The tensors in the order of `expected`, which maps names to shapes.

    Raises CheckpointError if they do not match; `against` names the source of the shapes.
    """
    problems = [f"{name} is missing" for name in expected if name not in stored]
    problems += [f"{name[:100]} is not a tensor of this model" for name in stored if name not in expected]
    problems += [
        f"{name} has the shape {stored[name].shape}, expected {shape}"
        for name, shape in expected.items()
        if name in stored and stored[name].shape != shape
    ]
    problems += [
        f"{name} has the dtype {type_name(tensor)}" for name, tensor in stored.items() if not is_floating_point(tensor)
    ]
    if problems:
        quantised = any(not is_floating_point(tensor) for tensor in stored.values())
        missing = all("is missing" in problem for problem in problems)
        hint = (
            _QUANTISED
            if quantised
            else _INCOMPLETE
            if missing
            else CONTRADICTION
            if stored.keys() <= expected.keys()
            else _PARTS
        )
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        file.refuse(f"contradicts {against}: {'; '.join(problems[:_SHOWN])}{more}", hint)
    for name in expected:
        require_finite(file, name, stored[name])
    return {name: stored[name] for name in expected}


def tie(file: TensorSource, stored: dict[str, Array], tokens: str) -> None:
    """Remove the output head, which is tied to the token embedding. If only the head is stored, it becomes the embedding.

    Raises CheckpointError if both are stored and differ.
    """
    head = stored.pop(HEAD, None)
    if head is not None and not np.array_equal(head, stored.setdefault(tokens, head)):
        file.refuse(f"has an {HEAD} that differs from its {tokens}, but this model ties the two", _TIED)


def require_finite(file: TensorSource, name: str, tensor: Array) -> None:
    """Raises CheckpointError if the tensor contains NaN or infinity."""
    if not is_finite(tensor):
        file.refuse(f"has invalid values: {name} contains NaN or infinity", "Its training diverged: use an earlier checkpoint.")
    file.release()
