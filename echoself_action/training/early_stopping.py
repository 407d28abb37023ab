"""Early stopping: a run whose validation loss has risen well above its lowest goes back to there, because further steps make it
worse.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..checkpoint.metadata import Evaluation, loss_text
from .distributed.sharding import local
from .optim.param_groups import moments
from .run import Run

_IN_A_ROW = 2  # evaluations: a single one may be noise


class EarlyStopping:
    """Watches the evaluations of a run's stable phase.

    The validation loss is above the lowest one if it is so by more than `margin`, a fraction of it. After two evaluations in a
    row above it the run should end. With a `margin` of 0 it never should.

    `rewind_point` is the run at its lowest validation loss, None if that is not below the one that it started with.
    """

    def __init__(self, margin: float) -> None:
        self._margin = margin
        self._lowest: Evaluation | None = None
        self._above = 0  # evaluations in a row
        self.rewind_point: RewindPoint | None = None

    def is_above(self, val_loss: float) -> bool:
        """Whether this validation loss is above the lowest one."""
        return self._lowest is not None and val_loss > (1 + self._margin) * self._lowest.val_loss

    def ends(self, run: Run, start_val_loss: float | None) -> bool:
        """Whether the run should end, after one more evaluation."""
        now = run.evaluations[-1]
        if not self._margin:
            return False
        if self._lowest is None or now.val_loss < self._lowest.val_loss:
            self._lowest = now
            if start_val_loss is None or now.val_loss < start_val_loss:
                self.rewind_point = RewindPoint.of(run)
        self._above = self._above + 1 if self.is_above(now.val_loss) else 0
        return self._above >= _IN_A_ROW

    def reason(self, now: Evaluation, bytes_per_token: float | None) -> str:
        """Why it ends, for the log: the model memorises if the training loss has still fallen."""
        lowest = self._lowest
        assert lowest
        before, after = (loss_text(one.val_loss, bytes_per_token) for one in (lowest, now))
        losses = f"validation loss {before} at step {lowest.step}, {after} at step {now.step}"
        ends = "The run decays now and ends early."
        if self.rewind_point:
            ends = f"The run goes back to step {lowest.step}, decays from there and ends early."
        if now.train_loss is not None and lowest.train_loss is not None and now.train_loss < lowest.train_loss:
            advice = "More text, a smaller model or init_from would help."
            return f"Memorising: {losses}, while the training loss fell. {ends} {advice}"
        return f"Diverging: {losses}, and the training loss did not fall either. {ends}"


@dataclass(frozen=True)
class RewindPoint:
    """A copy in memory of what the steps of a run change; with sharding, of this process's shards."""

    tensors: dict[str, Tensor]
    progress: dict[str, Any]

    @classmethod
    def of(cls, run: Run) -> "RewindPoint":
        """Copy the state of `run`."""
        tensors = {name: tensor.detach().to("cpu", copy=True) for name, tensor in _tensors(run).items()}
        names = ("step", "sequences_seen", "tokens_seen", "train_loss", "val_loss", "best_val_loss", "best_step", "loss_scale")
        progress = {name: getattr(run, name) for name in names}
        return cls(tensors, progress | {"evaluations": list(run.evaluations)})

    @torch.no_grad()
    def restore(self, run: Run) -> None:
        """Take `run` back to the copied state."""
        for name, tensor in _tensors(run).items():
            tensor.copy_(self.tensors[name])
        for name, value in self.progress.items():
            setattr(run, name, value)


def _tensors(run: Run) -> dict[str, Tensor]:
    return {name: local(tensor) for name, tensor in (run.model.state_dict() | moments(run.model, run.optimizer)).items()}
