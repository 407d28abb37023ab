"""Dropout as `native/csrc/dropout.h` defines it, in NumPy."""

import numpy as np
from numpy.typing import NDArray

PLACES = ("embedding", "projection", "mlp", "attention")
_GOLDEN = 0x9E3779B9


def _mixed(x: NDArray[np.uint32] | int) -> NDArray[np.uint32]:
    """Wellons' lowbias32 (github.com/skeeto/hash-prospector)."""
    x = np.atleast_1d(np.asarray(x, np.uint64)).astype(np.uint32)  # without the high bits of a sum
    x = (x ^ x >> np.uint32(16)) * np.uint32(0x7FEB352D)
    x = (x ^ x >> np.uint32(15)) * np.uint32(0x846CA68B)
    return x ^ x >> np.uint32(16)


def factors(seed: int, layer: int, place: str, rows: int, columns: int, rate: float) -> NDArray[np.float64]:
    """The factors (rows, columns) of a sequence at one of PLACES: 0 with probability `rate`, else 1 / (1 - rate).

    A row is a position, but for attention, which has the positions of each head.
    """
    key = _mixed((seed & 0xFFFFFFFF) ^ int(_mixed((seed >> 32) + _GOLDEN)[0]))
    key = _mixed(int(key[0]) + 4 * layer + PLACES.index(place))
    keys = _mixed(int(key[0]) + np.arange(rows, dtype=np.uint64) * _GOLDEN).astype(np.uint64)
    hashes = _mixed(keys[:, None] + np.arange(columns, dtype=np.uint64) * np.uint64(_GOLDEN)).view(np.int32)
    rate = float(np.float32(rate))
    return np.where(hashes < rate * 2**32 - 2**31, 0.0, 1 / (1 - rate))
