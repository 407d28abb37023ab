"""Which tokens a step sees: a pure function of (seed, position, corpus digest). Nothing to save, and resuming costs nothing.

An epoch cuts the tokens into windows of block_size, from an offset of its own, and visits each window once, in an order of
its own. Position n is window n modulo the epoch's windows, so a stream of sequences is defined that a run walks along:
whatever the batch size, on one device or eight, sequence n of a run is the same.
"""

import hashlib

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


class Batches:
    """Sequences of a token array (1-D, uint16 or uint32), in the order that (seed, digest) defines.

    Raises ValueError where the array holds less than one window and its target: block_size + 1 tokens.
    """

    def __init__(self, tokens: npt.NDArray[np.unsignedinteger], block_size: int, seed: int, digest: str) -> None:
        if len(tokens) <= block_size:
            raise ValueError(f"{len(tokens)} tokens are too few for a block of {block_size} and its target")
        self._tokens = tokens
        self._block_size = block_size
        self._key = f"{seed} {digest}"
        self.windows = max(1, (len(tokens) - block_size) // block_size)
        self._epoch = -1

    def at(self, position: int, count: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of the sequences position .. position + count - 1: two int64 tensors (count, block_size)."""
        starts = [self._start(position + number) for number in range(count)]
        both = torch.from_numpy(self._tokens[np.add.outer(starts, np.arange(self._block_size + 1))].astype(np.int64))
        return both[:, :-1].contiguous(), both[:, 1:].contiguous()

    def _start(self, position: int) -> int:
        epoch, index = divmod(position, self.windows)
        if epoch != self._epoch:
            self._shuffle(epoch)
        return self._offset + int(self._order[index]) * self._block_size

    def _shuffle(self, epoch: int) -> None:
        # Philox's raw stream is fixed by its definition; what a Generator makes of it may change between versions of numpy
        key = hashlib.blake2b(f"{self._key} {epoch}".encode(), digest_size=16).digest()
        raw = np.random.Philox(key=np.frombuffer(key, np.uint64)).random_raw(self.windows + 1)
        self._offset = int(raw[0] % (len(self._tokens) - self.windows * self._block_size))
        self._order = np.argsort(raw[1:], kind="stable")
        self._epoch = epoch
