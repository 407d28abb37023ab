"""Held-out token ids that are in the training ids too, in token files (nanoGPT's `train.bin` and `val.bin`).

Token files have no documents and no paragraphs, so nothing can be left out as leaks.py does: what is repeated is measured, and
its share reported. The unit is a window of `WINDOW` ids, at every position: a held-out id counts as repeated if a window that
contains it is also somewhere in the training ids. One pass over both files, in chunks.

Each window is compared by a polynomial hash modulo 2^64 of its mixed ids (Karp and Rabin, 1987): of 10^6 and 10^9 windows, two
different ones have the same hash with a probability of 10^-4 or less.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .leaks import COMMON

WINDOW = 64  # ids, a power of two: about 250 bytes of text, or a sentence of characters
MOST_HELD_OUT = 1 << 22  # ids of the held-out file that are compared: 130 MB of memory
MOST_TRAINING = 1 << 28  # ids of the training file that they are compared with: a minute on one core
_CHUNK = 1 << 18  # windows hashed at a time, in the cache of a core
_BASE = 0x9E3779B97F4A7C15  # odd

_Ids = npt.NDArray[np.unsignedinteger[Any]]
_Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class RepeatedWindows:
    """Of `compared` held-out ids, `repeated` are in a window that is in the training ids too, `common` of them only in windows
    with `COMMON` or more copies there.

    `is_whole`: all ids of both files were compared, not only the first `MOST_HELD_OUT` and `MOST_TRAINING`.
    """

    compared: int
    repeated: int
    common: int
    is_whole: bool

    @property
    def share(self) -> float:
        """The part of the held-out ids that is repeated, 0 to 1."""
        return self.repeated / self.compared


def find_repeated_windows(train: _Ids, val: _Ids) -> RepeatedWindows | None:
    """Compare two files of ids, (n,) each. None if one is shorter than a window."""
    if min(len(train), len(val)) < WINDOW:
        return None
    is_whole = len(val) <= MOST_HELD_OUT and len(train) <= MOST_TRAINING
    train, val = train[:MOST_TRAINING], val[:MOST_HELD_OUT]
    hashes = np.concatenate(list(_hashes(val)))  # of the window that begins at each position
    known, first = np.unique(hashes, return_inverse=True)
    copies = np.zeros(len(known), np.uint32)  # in the training ids
    some = _Filter(known)
    for chunk in _hashes(train):
        candidates = np.sort(chunk[some.may_contain(chunk)])  # sorted, they are found several times faster
        places = np.minimum(known.searchsorted(candidates), len(known) - 1)
        np.add.at(copies, places[known[places] == candidates], 1)
    of_window = copies[first]
    repeated = _covered(of_window > 0, len(val))
    rare = _covered((of_window > 0) & (of_window < COMMON), len(val))
    return RepeatedWindows(len(val), int(repeated.sum()), int((repeated & ~rare).sum()), is_whole)


class _Filter:
    """Excludes most hashes that are not among the known ones, by one look into a table that fits into the cache."""

    def __init__(self, known: _Hashes) -> None:
        bits = max(16, min(26, int(len(known) * 16 - 1).bit_length()))
        self._shift = np.uint64(64 - bits)
        self._table = np.zeros(1 << bits, np.bool_)
        self._table[known >> self._shift] = True

    def may_contain(self, hashes: _Hashes) -> npt.NDArray[np.bool_]:
        found: npt.NDArray[np.bool_] = self._table[hashes >> self._shift]
        return found


def _hashes(ids: _Ids) -> Iterator[_Hashes]:
    """The hashes of all windows of `ids`, in chunks. That of a window of 2n ids is made of those of its halves."""
    for start in range(0, len(ids) - WINDOW + 1, _CHUNK):
        part = _mixed(ids[start : start + _CHUNK + WINDOW - 1].astype(np.uint64))
        size = 1
        while size < WINDOW:
            part = part[:-size] * np.uint64(pow(_BASE, size, 1 << 64)) + part[size:]
            size *= 2
        yield _mixed(part)


def _mixed(values: _Hashes) -> _Hashes:
    """Each value as one whose bits all depend on all of its bits (splitmix64's finaliser, Steele et al. 2014)."""
    values = values + np.uint64(_BASE)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _covered(begins: npt.NDArray[np.bool_], size: int) -> npt.NDArray[np.bool_]:
    """(size,) the positions in a window that begins at one of `begins`."""
    change = np.zeros(size + 1, np.int32)
    starts = begins.nonzero()[0]
    np.add.at(change, starts, 1)
    np.subtract.at(change, starts + WINDOW, 1)
    return change.cumsum()[:-1] > 0
