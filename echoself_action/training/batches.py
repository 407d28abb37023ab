"""The stream of training sequences: a pure function of seed, position and corpus digest, so there is no sampler state to save.

Each epoch cuts the tokens into windows of block_size, starting at a random offset, and visits each window once in a random
order. Position n of the stream is window n modulo the number of windows, in the order of its epoch. Sequence n of a run
therefore does not depend on the batch size or the number of devices.
"""

import hashlib

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


class Batches:
    """Sequences of a token array (1-D, uint16 or uint32), shuffled by `seed` and the corpus `digest`.

    Raises ValueError if the array has fewer than block_size + 1 tokens (one window and its last target).
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
        # Philox's raw output is fixed by its definition; that of numpy's Generator methods may change between versions
        key = hashlib.blake2b(f"{self._key} {epoch}".encode(), digest_size=16).digest()
        raw = np.random.Philox(key=np.frombuffer(key, np.uint64)).random_raw(self.windows + 1)
        self._offset = int(raw[0] % (len(self._tokens) - self.windows * self._block_size))
        self._order = np.argsort(raw[1:], kind="stable")
        self._epoch = epoch
