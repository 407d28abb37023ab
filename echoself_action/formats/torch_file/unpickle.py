"""A checkpoint's pickle and the records beside it, put together: tensors become arrays of the mapped file.

It is read after `check_pickle`, and knows the names of NAMES and nothing else; where the real one does more than a checkpoint
needs, a name stands for one of ours.
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

_KINDS = "?bBhHiIlLqQefdUS"  # of NumPy's numbers and text
_LARGEST_SIZE = 1 << 62  # numbers along a side, or between two of them
_MOST_SIDES = 64  # as NumPy has them


class _StateDict(dict[Any, Any]):
    """`collections.OrderedDict`. The attributes that a pickle gives it are not kept: they would be found before its methods."""

    def __setstate__(self, state: object) -> None:
        pass


class _Storage:
    """One record of the file: numbers of one type, in a row."""

    def __init__(self, data: memoryview, dtype: np.dtype[Any]) -> None:
        self.data, self.dtype = data, dtype


def _tensor(storage: object, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object) -> Array:
    """`torch._utils._rebuild_tensor_v2`: `offset` and `strides` in numbers, not bytes. Each number is there, and there once."""
    if not isinstance(storage, _Storage):
        raise TypeError("a tensor of what is no storage")
    whole = all(type(size) is int and 0 <= size < _LARGEST_SIZE for size in (offset, *shape, *strides))
    if not whole or len(shape) != len(strides) or len(shape) > _MOST_SIDES:
        raise ValueError("a tensor of sizes that are none")
    size = storage.dtype.itemsize
    if math.prod(shape) * size > len(storage.data):
        raise ValueError(f"a tensor has the shape {shape}, and has not so many numbers")
    return np.ndarray(shape, storage.dtype, storage.data, offset * size, [stride * size for stride in strides])


def _parameter(tensor: Array, *_: object) -> Array:
    return tensor


class _Dtype:
    """`numpy.dtype`, of a plain name: the real one evaluates expressions. Of its state, the order of bytes matters."""

    def __init__(self, name: str, *_: object) -> None:
        if not re.fullmatch(f"[<|=]?[{_KINDS}u][0-9]{{0,4}}", name):
            raise ValueError("a dtype that is none of numbers or text")
        self.plain = np.dtype(name)

    def __setstate__(self, state: Any) -> None:
        if state[1] not in ("<", "|", "="):
            raise ValueError("a dtype of another byte order")


def _scalar(dtype: object, data: bytes) -> Any:
    """`numpy._core.multiarray.scalar`: one number, or text."""
    if not isinstance(dtype, _Dtype):
        raise TypeError("a scalar of no dtype")
    return np.frombuffer(data, dtype.plain, 1)[0]


class _LeftOut:
    """An array of NumPy's, such as the state of a generator: nothing here wants its content."""

    def __setstate__(self, state: object) -> None:
        pass


def _encode(text: str, _: str) -> bytes:
    """`_codecs.encode`, of which pickles use one: bytes, as Python 2 could read them."""
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
    "numpy.ndarray": None,  # the type of what `_reconstruct` makes
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray._reconstruct": lambda *_: _LeftOut() for core in ("core", "_core")},
}


def unpickled(archive: Archive) -> Any:
    """What the pickle describes. Raises any error where it describes nothing."""
    return _Unpickler(archive).load()


class _Unpickler(pickle.Unpickler):
    def __init__(self, archive: Archive) -> None:
        super().__init__(io.BytesIO(archive.pickle), encoding="utf-8")
        self._archive = archive

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        return NAMES[f"{module}.{name}"]  # type: ignore[no-any-return]

    def persistent_load(self, told: Any) -> _Storage:
        """`told` is ("storage", type, name of the record, device, numbers)."""
        kind, dtype, name, _, count = told
        if kind != "storage" or not isinstance(dtype, np.dtype) or type(name) is not str or type(count) is not int:
            raise ValueError("a persistent id that is no storage's")
        data = self._archive.record(f"data/{name}")
        if len(data) != count * dtype.itemsize:
            raise ValueError(f"data/{name[:60]} has {len(data)} bytes, and is said to have {count} numbers of {dtype}")
        return _Storage(data, dtype)
