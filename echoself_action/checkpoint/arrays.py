"""Tensors as NumPy arrays, so that reading, checking and writing them does not need PyTorch.

NumPy has no bfloat16: such an array has the dtype BFLOAT16, a structure of one field with the 16 bits.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

Array = np.ndarray[Any, Any]
BFLOAT16 = np.dtype([("bfloat16", "<u2")])
_TYPES: dict[str, Any] = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": BFLOAT16}  # of safetensors
_BLOCK = 256  # rows and columns of a block that is transposed at a time: it fits into the L1 cache
_PIECE = 1 << 16  # elements that are checked at a time


def as_float32(array: Array) -> Array:
    """`array` in fp32; the same array if it is already."""
    if array.dtype == BFLOAT16:
        return (array["bfloat16"].astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32, copy=False)


def as_array(tensor: "Array | Tensor") -> Array:
    """A NumPy array that shares the memory of a CPU tensor. 16-bit floating-point tensors are copied to fp32."""
    if isinstance(tensor, np.ndarray):
        return tensor
    plain = tensor.detach().cpu()
    return (plain.float() if plain.is_floating_point() and plain.itemsize == 2 else plain).numpy()


def is_floating_point(array: Array) -> bool:
    """Whether the dtype is a floating-point type."""
    return array.dtype.kind == "f" or bool(array.dtype == BFLOAT16)


def is_finite(array: Array) -> bool:
    """Whether no element is NaN or infinite."""
    return all(bool(np.isfinite(piece.min()) and np.isfinite(piece.max())) for piece in _pieces(array))  # min propagates NaN


def is_negative(array: Array) -> bool:
    """Whether an element is below zero."""
    return any(bool(piece.min() < 0) for piece in _pieces(array))


def type_name(array: Array) -> str:
    """The name of the dtype in PyTorch."""
    return f"torch.{'bfloat16' if array.dtype == BFLOAT16 else array.dtype.name}"


def is_same_tensor(path: Path, one: str, other: str) -> bool:
    """Whether two tensors in a valid safetensors file have equal values. False for types other than floating-point ones."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))

    def mapped(name: str) -> Array | None:
        fact = header[name]
        if fact["dtype"] not in _TYPES:
            return None
        dtype: np.dtype[Any] = np.dtype(_TYPES[fact["dtype"]])
        return as_float32(np.memmap(path, dtype, "r", 8 + size + fact["data_offsets"][0], tuple(fact["shape"])))

    first, second = mapped(one), mapped(other)
    return first is not None and second is not None and np.array_equal(first, second)


def copy_into(target: Array, source: Array) -> None:
    """Copy `source` to `target` (fp32, same shape). Transposed matrices are copied in blocks, which is several times faster."""
    if source.ndim != 2 or source.flags.c_contiguous:
        target[...] = as_float32(source)
        return
    rows, columns = source.shape
    for row in range(0, rows, _BLOCK):
        for column in range(0, columns, _BLOCK):
            block = slice(row, row + _BLOCK), slice(column, column + _BLOCK)
            target[block] = as_float32(source[block])


def _pieces(array: Array) -> Iterator[Array]:
    """All elements in pieces, bfloat16 converted to fp32."""
    flat = (array.T if array.flags.f_contiguous else array).reshape(-1)
    for start in range(0, flat.size, _PIECE):
        piece = flat[start : start + _PIECE]
        yield as_float32(piece) if piece.dtype == BFLOAT16 else piece
