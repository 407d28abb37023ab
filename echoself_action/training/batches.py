"""The stream of training sequences: a pure function of seed, position and corpus digest, so there is no sampler state to save.

Each epoch cuts the tokens into windows of block_size, starting at a random offset, and visits each window once in a random
order. Position n of the stream is window n modulo the number of windows, in the order of its epoch. Sequence n of a run
therefore does not depend on the batch size or the number of devices. A phase with weights has another stream of the same kind
(weighted_stream.py), of which it reads the same positions.

Inputs can be noised (Xie et al. 2017, arXiv 1703.02573): a fraction of the tokens that the model reads, but not of those that
it predicts, is replaced by tokens from random places of the training text. This regularises a model that sees its text many
times, and costs no time.
"""

import hashlib

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .weighted_stream import WeightedSources, WeightedStream


class Batches:
    """Sequences of a token array (1-D, uint16 or uint32), shuffled by `seed` and the corpus `digest`.

    `noise` is the fraction of input tokens that are replaced by random ones, another selection in each epoch. `weighted` has
    the weights of the sources of the text by step, None if all text is read alike.
    Raises ValueError if the array has fewer than block_size + 1 tokens (one window and its last target).
    """

    def __init__(
        self,
        tokens: npt.NDArray[np.unsignedinteger],
        block_size: int,
        seed: int,
        digest: str,
        noise: float = 0.0,
        weighted: WeightedSources | None = None,
    ) -> None:
        if len(tokens) <= block_size:
            raise ValueError(f"{len(tokens)} tokens are too few for a block of {block_size} and its target")
        self._tokens = tokens
        self._block_size = block_size
        self._key = f"{seed} {digest}"
        self._noise = noise
        self._weighted = weighted
        self._stream: tuple[tuple[float, ...], WeightedStream] | None = None  # the latest, with its weights
        self.windows = max(1, (len(tokens) - block_size) // block_size)
        self._epoch = -1

    def at(self, position: int, count: int, step: int = 0) -> tuple[Tensor, Tensor]:
        """Inputs and targets of the sequences position .. position + count - 1: two int64 tensors (count, block_size).

        `step` is the step of the run that reads them, on which the weights depend.
        """
        stream = self._stream_at(step)
        positions = range(position, position + count)
        if stream:
            places = np.stack([stream.window(one) for one in positions])
        else:
            places = np.add.outer([self._start(one) for one in positions], np.arange(self._block_size + 1))
        both = torch.from_numpy(self._tokens[places].astype(np.int64))
        ids, targets = both[:, :-1].contiguous(), both[:, 1:].contiguous()
        if self._noise:
            for number, sequence in enumerate(ids):
                self._add_noise(sequence, position + number, stream)
        return ids, targets

    def _stream_at(self, step: int) -> WeightedStream | None:
        """The stream under the weights of the phase of `step`; None if all text is read alike."""
        weights = self._weighted and self._weighted.at(step)
        if not self._weighted or not weights:
            return None
        if self._stream is None or self._stream[0] != weights:
            self._stream = weights, WeightedStream(self._weighted.lengths, weights, self._block_size, self._random)
        return self._stream[1]

    def _add_noise(self, sequence: Tensor, position: int, stream: WeightedStream | None) -> None:
        """Replace a fraction of the tokens of one input sequence (block_size,)."""
        raw = self._random(f"noise {position}", 2 * self._block_size).reshape(2, -1)
        replaced = raw[0] < np.uint64(self._noise * 2.0**64)
        places = stream.anywhere(raw[1, replaced]) if stream else raw[1, replaced] % len(self._tokens)
        sequence.numpy()[replaced] = self._tokens[places]

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
