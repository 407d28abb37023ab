"""Held-out loss: the mean cross-entropy over a fixed part of the validation split, in fp32, as the model is published."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..model import Model

_TOKENS_AT_ONCE = 8192  # bounds the memory that the logits take


class HeldOut:
    """The windows that every evaluation of a run reads.

    `tokens` is the validation split (1-D). `limit` is how many of its tokens to read: as many whole windows as that
    allows, evenly spaced over the split; 0 is the whole of it, its last, shorter window included.
    """

    def __init__(self, tokens: npt.NDArray[np.unsignedinteger], block_size: int, limit: int = 0) -> None:
        if len(tokens) < 2:
            raise ValueError("an evaluation needs at least two tokens")
        self._tokens = tokens
        self._block_size = block_size
        starts = list(range(0, len(tokens) - 1, block_size))
        wanted = max(1, limit // block_size)
        if limit and wanted < len(starts):
            whole = len(starts) - 1  # the last window may be shorter
            starts = [starts[index * whole // wanted] for index in range(wanted)]
        self._starts = starts

    @property
    def positions(self) -> int:
        """How many tokens an evaluation predicts, about."""
        return len(self._starts) * self._block_size

    def windows(self) -> list[npt.NDArray[np.unsignedinteger]]:
        """The windows themselves, each with a first token that nobody predicts."""
        return [self._tokens[start : start + self._block_size + 1] for start in self._starts]

    @torch.no_grad()
    def loss(self, model: Model) -> float:
        """Mean negative log-likelihood in nats per token. Leaves the model in the mode it was in."""
        device = next(model.parameters()).device
        was_training = model.training
        model.eval()
        total, count = 0.0, 0
        for ids, targets in self._batches():
            total += model.loss(ids.to(device), targets.to(device), reduction="sum").item()
            count += ids.shape[0] * (ids.shape[1] + 1 - model.label_shift)
        model.train(was_training)
        return total / count

    def _batches(self) -> list[tuple[Tensor, Tensor]]:
        rows = [self._tokens[start : start + self._block_size + 1].astype(np.int64) for start in self._starts]
        shorter = [rows.pop()] if len(rows[-1]) < self._block_size + 1 else []
        at_once = max(1, _TOKENS_AT_ONCE // self._block_size)
        stacks = [np.stack(rows[index : index + at_once]) for index in range(0, len(rows), at_once)]
        both = [torch.from_numpy(stack) for stack in [*stacks, *(row[None] for row in shorter)]]
        return [(batch[:, :-1], batch[:, 1:]) for batch in both]
