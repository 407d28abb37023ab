"""The stream of training sequences under the weights of a phase: a pure function of seed, position, corpus digest and weights.

Text of equal weight is a group. The windows of an epoch are cut within the groups, each of which is read as a ring from a
random offset, so that no window has text of two weights, and text of weight 0 is never read. An epoch is as long as the windows
that its groups have, each times its weight. Its windows are drawn by systematic resampling (Kitagawa 1996, "Monte Carlo Filter
and Smoother", appendix): from the cumulated weights at equal distances, with one random offset. So each group gets its share
to within one draw, and each window its weight rounded up or down. They are visited in a random order.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..corpus.source_weights import source_weights
from ..corpus.tokens import Tokens
from .curriculum import Curriculum

Random = Callable[[str, int], npt.NDArray[np.uint64]]  # (name, count) -> random 64-bit numbers, a function of both
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class WeightedSources:
    """The number of tokens of each source of a training text, in its order, and their weights in each phase."""

    curriculum: Curriculum
    lengths: tuple[int, ...]
    weights: tuple[tuple[float, ...], ...]  # by phase

    @classmethod
    def of(cls, curriculum: Curriculum, tokens: Tokens) -> "WeightedSources | None":
        """None if no phase has weights that differ, so that all text is read as without phases."""
        if not any(phase.weights for phase in curriculum.phases):
            return None
        assert tokens.sources is not None
        names = [source.name for source in tokens.sources]
        lengths = tuple(source.tokens for source in tokens.sources)
        return cls(curriculum, lengths, tuple(tuple(source_weights(names, phase.weights)) for phase in curriculum.phases))

    def at(self, step: int) -> tuple[float, ...] | None:
        """The weights of the sources at `step`; None if they are equal: the text is then read as without weights."""
        weights = self.weights[self.curriculum.index(step)]
        used = {weight for weight, length in zip(weights, self.lengths, strict=True) if length}
        return weights if len(used) > 1 else None


class WeightedStream:
    """The windows of `block_size` + 1 tokens of a training text whose sources have these `lengths` and `weights`."""

    def __init__(self, lengths: Sequence[int], weights: Sequence[float], block_size: int, random: Random) -> None:
        """At least one weight of a source with tokens must be above 0."""
        self._random, self._block_size = random, block_size
        self._name = f"weights {' '.join(repr(float(weight)) for weight in weights)}"
        starts = np.concatenate(([0], np.cumsum(lengths)[:-1])).astype(np.int64)
        groups = sorted({weight for weight, length in zip(weights, lengths, strict=True) if weight and length})
        # the sources as they follow one another in the groups: their places in the text and in all groups together
        members = [number for group in groups for number, weight in enumerate(weights) if weight == group and lengths[number]]
        self._in_text = starts[members]
        self._in_groups = np.concatenate(([0], np.cumsum([lengths[number] for number in members]))).astype(np.int64)
        sizes = [sum(length for length, own in zip(lengths, weights, strict=True) if own == weight) for weight in groups]
        self._sizes = np.array(sizes, np.int64)
        self._bases = np.concatenate(([0], np.cumsum(self._sizes)[:-1])).astype(np.int64)
        self._counts = -(-self._sizes // block_size)  # windows of each group, which may overlap a little
        masses = np.array(groups) * self._sizes / block_size
        self._each = masses / self._counts
        self._ends = np.cumsum(masses)
        self.windows = max(1, round(float(self._ends[-1])))
        self._epoch = -1

    def window(self, position: int) -> Indices:
        """The places in the text, (block_size + 1,), of the sequence at `position`."""
        epoch, index = divmod(position, self.windows)
        if epoch != self._epoch:
            self._draw(epoch)
        draw = self._order[index]
        group, start = self._groups[draw], self._starts[draw]
        return self._places(self._bases[group] + (start + np.arange(self._block_size + 1)) % self._sizes[group])

    def anywhere(self, raw: npt.NDArray[np.uint64]) -> Indices:
        """Random places in the text that is read, one for each of `raw`."""
        return self._places((raw % np.uint64(self._in_groups[-1])).astype(np.int64))

    def _places(self, in_groups: Indices) -> Indices:
        source = np.searchsorted(self._in_groups, in_groups, "right") - 1
        places: Indices = self._in_text[source] + in_groups - self._in_groups[source]
        return places

    def _draw(self, epoch: int) -> None:
        count = len(self._sizes)
        raw = self._random(f"{self._name} {epoch}", count + 1 + self.windows)
        offsets = (raw[:count] % self._sizes.astype(np.uint64)).astype(np.int64)
        first = int(raw[count] >> np.uint64(11)) / 2**53
        drawn = (np.arange(self.windows) + first) * (float(self._ends[-1]) / self.windows)
        self._groups = np.minimum(np.searchsorted(self._ends, drawn, "right"), count - 1)
        before = np.concatenate(([0.0], self._ends[:-1]))[self._groups]
        windows = np.floor((drawn - before) / self._each[self._groups]).astype(np.int64)
        windows = np.clip(windows, 0, self._counts[self._groups] - 1)
        sizes = self._sizes[self._groups]
        self._starts = (offsets[self._groups] + windows * sizes // self._counts[self._groups]) % sizes
        self._order = np.argsort(raw[count + 1 :], kind="stable")
        self._epoch = epoch
