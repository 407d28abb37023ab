"""Numbers of a file as NumPy's arrays: what reads, checks and writes them needs no PyTorch.

NumPy has no bfloat16: an array of it is of BFLOAT16, whose one field is the 16 bits.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

Array = np.ndarray[Any, Any]
BFLOAT16 = np.dtype([("bfloat16", "<u2")])
_BLOCK = 256  # numbers on a side of what is turned at a time: it stays in the nearest cache
_PIECE = 1 << 16  # numbers that are looked at a time


def as_float32(array: Array) -> Array:
    """The same numbers in fp32: `array` itself where they are."""
    if array.dtype == BFLOAT16:
        return (array["bfloat16"].astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32, copy=False)


def as_array(numbers: "Array | Tensor") -> Array:
    """An array of the same memory where that is this machine's; numbers of two bytes are copied, to fp32."""
    if isinstance(numbers, np.ndarray):
        return numbers
    plain = numbers.detach().cpu()
    return (plain.float() if plain.is_floating_point() and plain.itemsize == 2 else plain).numpy()


def is_floating_point(array: Array) -> bool:
    """Whether its numbers have fractions."""
    return array.dtype.kind == "f" or bool(array.dtype == BFLOAT16)


def is_finite(array: Array) -> bool:
    """Whether none of its numbers is NaN or infinite."""
    return all(bool(np.isfinite(piece.min()) and np.isfinite(piece.max())) for piece in _pieces(array))  # NaN comes through


def type_name(array: Array) -> str:
    """What PyTorch calls the type of its numbers."""
    return f"torch.{'bfloat16' if array.dtype == BFLOAT16 else array.dtype.name}"


def copy_into(target: Array, source: Array) -> None:
    """`source` into `target` (fp32, of the same shape). Matrices that lie turned go block by block: several times as fast."""
    if source.ndim != 2 or source.flags.c_contiguous:
        target[...] = as_float32(source)
        return
    rows, columns = source.shape
    for row in range(0, rows, _BLOCK):
        for column in range(0, columns, _BLOCK):
            block = slice(row, row + _BLOCK), slice(column, column + _BLOCK)
            target[block] = as_float32(source[block])


def _pieces(array: Array) -> Iterator[Array]:
    """All of its numbers, in fp32 or wider, some at a time."""
    flat = (array.T if array.flags.f_contiguous else array).reshape(-1)
    for start in range(0, flat.size, _PIECE):
        piece = flat[start : start + _PIECE]
        yield as_float32(piece) if piece.dtype == BFLOAT16 else piece
