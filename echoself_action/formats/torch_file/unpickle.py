"""Unpickles a checkpoint: its tensors become NumPy arrays that are views of the mapped file.

It runs after `check_pickle`, and knows only the globals in NAMES. A global that does more than a checkpoint needs is replaced
by a function of this module.
"""

import io
import math
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from ...checkpoint.arrays import BFLOAT16, Array
from .archive import Archive

_KINDS = "?bBhHiIlLqQefdUS"  # NumPy's codes of numbers and text
_LARGEST_SIZE = 1 << 62  # of a dimension or a stride, in elements
_MOST_DIMENSIONS = 64  # as in NumPy


class _StateDict(dict[Any, Any]):
    """`collections.OrderedDict`, without the attributes that a pickle sets: they could replace its methods."""

    def __setstate__(self, state: object) -> None:
        pass


class _Storage:
    """One record of the file: a one-dimensional array of one dtype."""

    def __init__(self, data: memoryview, dtype: np.dtype[Any]) -> None:
        self.data, self.dtype = data, dtype


def _tensor(storage: object, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object) -> Array:
    """`torch._utils._rebuild_tensor_v2`: `offset` and `strides` count elements. Raises if it exceeds its storage."""
    if not isinstance(storage, _Storage):
        raise TypeError("a tensor without a storage")
    whole = all(type(size) is int and 0 <= size < _LARGEST_SIZE for size in (offset, *shape, *strides))
    if not whole or len(shape) != len(strides) or len(shape) > _MOST_DIMENSIONS:
        raise ValueError("a tensor with an invalid shape, stride or offset")
    size = storage.dtype.itemsize
    if math.prod(shape) * size > len(storage.data):
        raise ValueError(f"a tensor of shape {shape} is larger than its storage")
    return np.ndarray(shape, storage.dtype, storage.data, offset * size, [stride * size for stride in strides])


def _parameter(tensor: Array, *_: object) -> Array:
    return tensor


class _Dtype:
    """`numpy.dtype` of a simple name: the real one evaluates expressions. Of its state, only the byte order is used."""

    def __init__(self, name: str, *_: object) -> None:
        if not re.fullmatch(f"[<|=]?[{_KINDS}u][0-9]{{0,4}}", name):
            raise ValueError("a dtype that is not supported")
        self.plain = np.dtype(name)

    def __setstate__(self, state: Any) -> None:
        if state[1] not in ("<", "|", "="):
            raise ValueError("a dtype that is not little-endian")


def _scalar(dtype: object, data: bytes) -> Any:
    """`numpy._core.multiarray.scalar`: a number or a string."""
    if not isinstance(dtype, _Dtype):
        raise TypeError("a scalar without a dtype")
    return np.frombuffer(data, dtype.plain, 1)[0]


class _IgnoredArray:
    """A NumPy array, such as the state of a random generator. Its content is not used."""

    def __setstate__(self, state: object) -> None:
        pass


def _encode(text: str, _: str) -> bytes:
    """`_codecs.encode`, which pickles of protocol 2 use for bytes."""
    return text.encode("latin-1")


_STORAGES: dict[str, Any] = {
    **{"Float": "<f4", "Double": "<f8", "Half": "<f2", "Long": "<i8", "Int": "<i4", "Short": "<i2", "Char": "i1", "Byte": "u1"},
    **{"Bool": "?", "BFloat16": BFLOAT16},
}
NAMES: dict[str, Any] = {
    "collections.OrderedDict": lambda: _StateDict(),
    "torch.Size": lambda sizes: tuple(sizes),
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_tensor_v2": _tensor,
    **{f"torch.{kind}Storage": np.dtype(code) for kind, code in _STORAGES.items()},
    "_codecs.encode": _encode,
    "numpy.dtype": _Dtype,
    "numpy.ndarray": None,  # the argument of `_reconstruct`
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray._reconstruct": lambda *_: _IgnoredArray() for core in ("core", "_core")},
}


def unpickle(archive: Archive) -> Any:
    """The unpickled object. Raises any exception if the pickle is invalid."""
    return _Unpickler(archive).load()


class _Unpickler(pickle.Unpickler):
    def __init__(self, archive: Archive) -> None:
        super().__init__(io.BytesIO(archive.pickle), encoding="utf-8")
        self._archive = archive

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        return NAMES[f"{module}.{name}"]  # type: ignore[no-any-return]

    def persistent_load(self, pid: Any) -> _Storage:
        """`pid` is ("storage", dtype, name of the record, device, number of elements)."""
        kind, dtype, name, _, count = pid
        if kind != "storage" or not isinstance(dtype, np.dtype) or type(name) is not str or type(count) is not int:
            raise ValueError("an invalid persistent id")
        data = self._archive.record(f"data/{name}")
        if len(data) != count * dtype.itemsize:
            raise ValueError(f"data/{name[:60]} has {len(data)} bytes, expected {count} elements of {dtype}")
        return _Storage(data, dtype)
