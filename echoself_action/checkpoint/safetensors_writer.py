"""Writes a safetensors file in pieces, so that only a few pieces are in memory and not all tensors.

The writer of safetensors needs every tensor in memory in its final form. The tensors of a model that is being converted are
views of a memory-mapped file: those in their final form are copied from file to file, and the others are converted in buffers
that are reused. (The format: 8 bytes of header length, a JSON header, the data; github.com/huggingface/safetensors.)
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

_PIECE = 1 << 22  # elements that are written and hashed at a time: 16 MiB


def save_tensors(
    path: Path,
    tensors: Mapping[str, "Array | Tensor"],
    metadata: Mapping[str, str] | None = None,
    release: Callable[[], None] = lambda: None,
    hashed: Callable[[bytes | memoryview], None] = lambda _: None,
) -> None:
    """Write `tensors` in fp32, sorted by name. Raises OSError if the file can't be written.

    `release` is called after each piece of a tensor, to release pages of a memory-mapped source. `hashed` is called with the
    written bytes in order, in another thread.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in sorted(tensors):
        begin, end = end, end + 4 * math.prod(tensors[name].shape)
        header[name] = {"dtype": "F32", "shape": list(tensors[name].shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # align the data to 8 bytes
    start = len(text).to_bytes(8, "little") + text
    buffer_size = max((_PIECE, *(math.prod(tensor.shape[1:]) for tensor in tensors.values())))  # at least one row
    buffers = cycle([np.empty(buffer_size, np.float32) for _ in range(2)])
    with path.open("wb") as file, ThreadPoolExecutor(1) as thread:
        file.write(start)
        hashing = thread.submit(hashed, start)
        for name in sorted(tensors):
            for piece in _pieces(as_array(tensors[name]), buffers):
                data = piece.data.cast("B")
                file.write(data)
                hashing.result()  # one piece is hashed while the next is converted; no more pieces wait in memory
                hashing = thread.submit(hashed, data)
                release()
                # starts writing to disk now; otherwise dirty pages accumulate until the folder is synced
                if hasattr(os, "posix_fadvise"):  # not on macOS
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        hashing.result()


def _pieces(array: Array, buffers: Iterator[Array]) -> Iterator[Array]:
    """`array` in fp32 and row-major order, in pieces. Those that need conversion are in one of the `buffers` in turn."""
    if not array.size or (array.dtype == np.float32 and array.flags.c_contiguous):
        flat = array.reshape(-1)
        yield from (flat[start : start + _PIECE] for start in range(0, max(flat.size, 1), _PIECE))
        return
    rows = array.reshape(array.shape[0], -1) if array.ndim else array.reshape(1, 1)
    count = max(_PIECE // max(rows.shape[1], 1), 1)
    for start in range(0, len(rows), count):
        source = rows[start : start + count]
        target = next(buffers)[: source.size].reshape(source.shape)
        copy_into(target, source)
        yield target.reshape(-1)
