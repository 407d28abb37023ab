"""Tensors into a safetensors file, piece by piece: the memory that it takes is a few of those, not all the tensors.

safetensors' own writer wants every tensor in memory in its final form. A model that is being converted is a dict of views of
a mapped file: what has its final form there goes from one file into the other, and the rest gets it in memory that is used
again for the next. (The format: 8 bytes of header length, a JSON header, the data; github.com/huggingface/safetensors.)
"""

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .arrays import Array, as_array, copy_into

if TYPE_CHECKING:
    from torch import Tensor

_PIECE = 1 << 22  # numbers that are written, hashed and let go at a time: 16 MiB


def save_tensors(
    path: Path,
    tensors: Mapping[str, "Array | Tensor"],
    metadata: Mapping[str, str] | None = None,
    release: Callable[[], None] = lambda: None,
    hashed: Callable[[bytes | memoryview], None] = lambda _: None,
) -> None:
    """Write `tensors` in fp32, by name. Raises OSError where the file can't be written.

    `release` is called after each piece of a tensor: whoever maps them from a file can let go of it. `hashed` gets the bytes
    that are written, in another thread.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in sorted(tensors):
        begin, end = end, end + 4 * math.prod(tensors[name].shape)
        header[name] = {"dtype": "F32", "shape": list(tensors[name].shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data begin at a multiple of 8
    start = len(text).to_bytes(8, "little") + text
    room = max((_PIECE, *(math.prod(tensor.shape[1:]) for tensor in tensors.values())))  # for a row, at least
    spare = cycle([np.empty(room, np.float32) for _ in range(2)])
    with path.open("wb") as file, ThreadPoolExecutor(1) as thread:
        file.write(start)
        behind = thread.submit(hashed, start)
        for name in sorted(tensors):
            for piece in _pieces(as_array(tensors[name]), spare):
                data = piece.data.cast("B")
                file.write(data)
                behind.result()  # one piece is hashed while the next is made, and no more of them wait in memory
                behind = thread.submit(hashed, data)
                release()
                # to the disk while the rest is made, and out of memory: else it piles up until the folder is synced
                if hasattr(os, "posix_fadvise"):  # macOS has none
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        behind.result()


def _pieces(array: Array, spare: Iterator[Array]) -> Iterator[Array]:
    """`array` as it lies in the file, some rows at a time: what is not in that form, in one of the `spare` arrays in turn."""
    if not array.size or (array.dtype == np.float32 and array.flags.c_contiguous):
        flat = array.reshape(-1)
        yield from (flat[start : start + _PIECE] for start in range(0, max(flat.size, 1), _PIECE))
        return
    rows = array.reshape(array.shape[0], -1) if array.ndim else array.reshape(1, 1)
    count = max(_PIECE // max(rows.shape[1], 1), 1)
    for start in range(0, len(rows), count):
        source = rows[start : start + count]
        target = next(spare)[: source.size].reshape(source.shape)
        copy_into(target, source)
        yield target.reshape(-1)
