"""The stream of training sequences: a pure function of seed, position and corpus digest, so there is no sampler state to save.

Each epoch cuts the tokens into windows of block_size, starting at a random offset, and visits each window once in a random
order. Position n of the stream is window n modulo the number of windows, in the order of its epoch. Sequence n of a run
therefore does not depend on the batch size or the number of devices.

Inputs can be noised (Xie et al. 2017, arXiv 1703.02573): a fraction of the tokens that the model reads, but not of those that
it predicts, is replaced by tokens from random places of the training text. This regularises a model that sees its text many
times, and costs no time.
"""

import hashlib

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


class Batches:
    """Sequences of a token array (1-D, uint16 or uint32), shuffled by `seed` and the corpus `digest`.

    `noise` is the fraction of input tokens that are replaced by random ones, another selection in each epoch.
    Raises ValueError if the array has fewer than block_size + 1 tokens (one window and its last target).
    """

    def __init__(
        self, tokens: npt.NDArray[np.unsignedinteger], block_size: int, seed: int, digest: str, noise: float = 0.0
    ) -> None:
        if len(tokens) <= block_size:
            raise ValueError(f"{len(tokens)} tokens are too few for a block of {block_size} and its target")
        self._tokens = tokens
        self._block_size = block_size
        self._key = f"{seed} {digest}"
        self._noise = noise
        self.windows = max(1, (len(tokens) - block_size) // block_size)
        self._epoch = -1

    def at(self, position: int, count: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of the sequences position .. position + count - 1: two int64 tensors (count, block_size)."""
        starts = [self._start(position + number) for number in range(count)]
        both = torch.from_numpy(self._tokens[np.add.outer(starts, np.arange(self._block_size + 1))].astype(np.int64))
        ids, targets = both[:, :-1].contiguous(), both[:, 1:].contiguous()
        if self._noise:
            for number, sequence in enumerate(ids):
                self._add_noise(sequence, position + number)
        return ids, targets

    def _add_noise(self, sequence: Tensor, position: int) -> None:
        """Replace a fraction of the tokens of one input sequence (block_size,)."""
        raw = self._random(f"noise {position}", 2 * self._block_size).reshape(2, -1)
        replaced = raw[0] < np.uint64(self._noise * 2.0**64)
        sequence.numpy()[replaced] = self._tokens[raw[1, replaced] % len(self._tokens)]

    def _start(self, position: int) -> int:
        epoch, index = divmod(position, self.windows)
        if epoch != self._epoch:
            self._shuffle(epoch)
        return self._offset + int(self._order[index]) * self._block_size

    def _shuffle(self, epoch: int) -> None:
        raw = self._random(f"{epoch}", self.windows + 1)
        self._offset = int(raw[0] % (len(self._tokens) - self.windows * self._block_size))
        self._order = np.argsort(raw[1:], kind="stable")
        self._epoch = epoch

    def _random(self, name: str, count: int) -> npt.NDArray[np.uint64]:
        """Random 64-bit numbers (count,), a function of seed, corpus and `name`."""
        # Philox's raw output is fixed by its definition; that of numpy's Generator methods may change between versions
        key = hashlib.blake2b(f"{self._key} {name}".encode(), digest_size=16).digest()
        return np.random.Philox(key=np.frombuffer(key, np.uint64)).random_raw(count)
