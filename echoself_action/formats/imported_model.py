"""What every foreign checkpoint is, once it was checked: the content of a model folder, and the arithmetic to hold it to."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..checkpoint.arrays import Array
from ..model import ModelConfig
from .torch_file.reader import Foreign

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Source:
    """A checked checkpoint, under the names and in the orientation of our model; tensors are views of the mapped file.

    `moments` is AdamW's state as `training.optimizer.moments` gives it, empty where there is none. `logits` is the writer's
    own arithmetic on the writer's own tensors, in fp32: (batch, length) -> (batch, length, vocab_size). `settings` are those
    of the training, under nanoGPT's names; `vocabulary` is the tokenizer that the file itself names. `remarks` are what
    whoever uses the model has to know; `spare` are tensors that our model has no place for, and their own program wants back.
    """

    foreign: Foreign
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
