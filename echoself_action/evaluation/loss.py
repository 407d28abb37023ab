"""Held-out loss: the mean cross-entropy on a fixed part of the validation split, in fp32 like the published model.

It is in nats per token, or in bits per byte, which does not depend on the tokenizer.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..checkpoint.metadata import bits_per_byte
from ..checkpoint.model_folder import ModelFolder
from ..corpus.make_tokenizer import load_tokenizer
from ..corpus.tokenizer import Tokenizer
from ..model import Model
from ..native.models import evaluated_natively
from .held_out import read_held_out

_TOKENS_AT_ONCE = 8192
_LOGITS_AT_ONCE = 1 << 26  # 256 MiB in fp32


class HeldOut:
    """The windows of held-out text that every evaluation of a run uses.

    `tokens` is the validation split (1-D). `limit` is the maximum number of tokens, rounded down to whole windows that are
    evenly spaced over the split. 0 means all of it, including a shorter last window.
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
        """The approximate number of tokens that an evaluation predicts."""
        return len(self._starts) * self._block_size

    def windows(self) -> list[npt.NDArray[np.unsignedinteger]]:
        """The windows (1-D ids). The first token of each is only context."""
        return [self._tokens[start : start + self._block_size + 1] for start in self._starts]

    def loss(self, model: Model) -> float:
        """Mean negative log-likelihood in nats per token. Restores the model's training mode."""
        total, count = self.sums(model)
        return total / count

    @torch.no_grad()
    def sums(self, model: Model, rank: int = 0, size: int = 1) -> tuple[float, int]:
        """The summed negative log-likelihood in nats of the tokens of process `rank` of `size`, and their number.

        Every process calls the model equally often: the forward pass of a sharded model is a collective operation.
        """
        device = next(model.parameters()).device
        was_training = model.training
        model.eval()
        native = evaluated_natively(model)
        total, count = 0.0, 0
        batches = self._batches(model.config.vocab_size)
        for index in range(rank, -(-len(batches) // size) * size, size):
            ids, targets = batches[min(index, len(batches) - 1)]
            if native:
                loss = native.losses(ids, targets).sum(dtype=torch.float64).item()
            else:
                loss = model.loss(ids.to(device), targets.to(device), reduction="sum").item()
            if index < len(batches):
                total += loss
                count += ids.shape[0] * (ids.shape[1] + 1 - model.label_shift)
        model.train(was_training)
        return total, count

    def _batches(self, vocab_size: int) -> list[tuple[Tensor, Tensor]]:
        rows = [self._tokens[start : start + self._block_size + 1].astype(np.int64) for start in self._starts]
        shorter = [rows.pop()] if len(rows[-1]) < self._block_size + 1 else []
        at_once = max(1, min(_TOKENS_AT_ONCE, _LOGITS_AT_ONCE // vocab_size) // self._block_size)
        stacks = [np.stack(rows[index : index + at_once]) for index in range(0, len(rows), at_once)]
        both = [torch.from_numpy(stack) for stack in [*stacks, *(row[None] for row in shorter)]]
        return [(batch[:, :-1], batch[:, 1:]) for batch in both]


def texts_of(tokenizer: Tokenizer, windows: Sequence[npt.NDArray[np.integer]]) -> list[str]:
    """The text of each window (1-D ids), without end-of-text tokens, which other tokenizers write differently."""
    arrays, end = [np.asarray(window) for window in windows], tokenizer.end_of_text_id
    return tokenizer.decode_batch(arrays if end is None else [ids[ids != end] for ids in arrays])


def byte_counts(tokenizer: Tokenizer, windows: Sequence[npt.NDArray[np.integer]]) -> list[int]:
    """The UTF-8 bytes of the text of each window (1-D ids). End-of-text tokens have none."""
    return [len(text.encode("utf-8", "replace")) for text in texts_of(tokenizer, windows)]


def bytes_per_token(tokenizer: Tokenizer, windows: Sequence[npt.NDArray[np.integer]], label_shift: int = 1) -> float | None:
    """The mean number of bytes of the predicted tokens of `windows` (1-D ids); None if nothing is predicted.

    The first `label_shift` ids of a window are not predicted.
    """
    predicted = [window[label_shift:] for window in windows]
    size = sum(byte_counts(tokenizer, predicted))
    return size / sum(map(len, predicted)) if size else None


def bits_per_byte_of(folder: ModelFolder) -> float | None:
    """The recorded validation loss of a checkpoint in bits per byte.

    Checkpoints of earlier versions do not record the size of a token: it is computed from the held-out text that is stored with
    them. None if no loss was recorded or no held-out text is stored.
    """
    facts = folder.metadata
    if facts is None or facts.val_loss is None:
        return None
    if facts.bytes_per_token:
        return facts.bits_per_byte
    windows = read_held_out(folder.path)
    return bits_per_byte(facts.val_loss, bytes_per_token(load_tokenizer(folder.path), windows)) if windows else None
