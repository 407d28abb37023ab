"""Unpickles a checkpoint: its tensors become NumPy arrays that are views of the mapped file.

It runs after `check_pickle`, and calls only the globals in NAMES. A global that does more than a checkpoint needs is replaced
by a function of this module, and any other class by a stub.
"""

import io
import math
import pickle
import re
from typing import Any

import numpy as np

from ...checkpoint.arrays import BFLOAT16, Array
from .archive import Archive
from .stub import StubObject, name_of, stub_class

_KINDS = "?bBhHiIlLqQefdcUSu"  # NumPy's codes of numbers and text
_UNREAD_KINDS = "MmOV"  # dates, durations, objects, records
_UNREAD = np.dtype([("unread", "u1")])
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


def _tensor_of_dtype(
    storage: object,
    offset: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    _: object,
    __: object,
    dtype: str,
    *___: object,
) -> Array:
    """`torch._utils._rebuild_tensor_v3`, for dtypes without a type of storage."""
    if not isinstance(storage, _Storage) or storage.dtype != np.uint8 or dtype not in _DTYPES_OF_V3:
        raise TypeError(f"a tensor of the dtype {str(dtype)[:40]}, which is not supported")
    return _tensor(_Storage(storage.data, _DTYPES_OF_V3[dtype]), offset, shape, strides)


class _Parameter(np.ndarray[Any, Any]):
    """A parameter: in a pickled optimizer, it is the key of its state."""

    __hash__ = object.__hash__  # type: ignore[assignment]  # by identity, as of PyTorch's


def _parameter(tensor: Array, *_: object) -> Array:
    return tensor.view(_Parameter)


def _old_tensor(storage: object, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Array:
    """`torch._utils._rebuild_tensor`, of PyTorch before version 0.4."""
    return _tensor(storage, offset, shape, strides)


def _with_attributes(rebuild: object, _: object, arguments: tuple[Any, ...], *__: object) -> Array:
    """`torch._tensor._rebuild_from_type_v2`: a tensor with attributes, or of a subclass. Only the tensor is used."""
    if rebuild not in (_tensor, _parameter):
        raise TypeError("a tensor of a kind that is not supported")
    return rebuild(*arguments)


def _member(kind: object, name: object) -> StubObject:
    """`getattr` of a class or an object, which Python 3.11 stores for the member of an enum, and others for a method."""
    found = kind if isinstance(kind, type) else type(kind)
    if not issubclass(found, StubObject) or not isinstance(name, str):
        raise TypeError("an attribute of something other than a class")
    return found(name)


class _Dtype:
    """`numpy.dtype` of a simple name: the real one evaluates expressions. Of its state, only the byte order is used.

    Values that are neither numbers nor text are not read: an array of them is one of no elements of the dtype _UNREAD.
    """

    def __init__(self, name: str, *_: object) -> None:
        if not re.fullmatch(f"[<|=]?[{_KINDS}{_UNREAD_KINDS}][0-9]{{0,6}}", name):
            raise ValueError("a dtype that is not supported")
        self.plain = _UNREAD if name.lstrip("<|=")[0] in _UNREAD_KINDS else np.dtype(name)

    def __setstate__(self, state: Any) -> None:
        if state[1] not in ("<", "|", "="):
            raise ValueError("a dtype that is not little-endian")


def _scalar(dtype: object, data: bytes) -> Any:
    """`numpy._core.multiarray.scalar`: a number or a string, as Python's own."""
    if not isinstance(dtype, _Dtype):
        raise TypeError("a scalar without a dtype")
    if dtype.plain is _UNREAD:
        return stub_class("numpy.generic")()
    return np.frombuffer(data, dtype.plain, 1)[0].item()


class _PickledArray(np.ndarray[Any, Any]):
    """A NumPy array, whose content follows as its state. It is copied: `check_pickle` limits the size of all of them."""

    def __setstate__(self, state: Any) -> None:
        *_, shape, dtype, fortran, data = state
        if isinstance(dtype, _Dtype) and dtype.plain is _UNREAD:
            shape, fortran, data = (0,), False, b""
        if not isinstance(dtype, _Dtype) or not isinstance(data, bytes) or not isinstance(fortran, bool | int):
            raise ValueError("an array that is not of numbers or strings")
        _check_shape(shape, dtype.plain, data)
        super().__setstate__((shape, dtype.plain, bool(fortran), data))  # type: ignore[arg-type]  # NumPy's types ask for np.bool


def _reconstruct(*_: object) -> _PickledArray:
    """`numpy._core.multiarray._reconstruct`: an array that has no content yet."""
    return np.ndarray.__new__(_PickledArray, (0,))


def _from_buffer(data: object, dtype: object, shape: object, order: object) -> Array:
    """`numpy._core.numeric._frombuffer`, of protocol 5."""
    if isinstance(dtype, _Dtype) and dtype.plain is _UNREAD:
        return np.empty(0, _UNREAD)
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes | bytearray) or order not in ("C", "F"):
        raise ValueError("an array that is not of numbers or strings")
    _check_shape(shape, dtype.plain, data)
    return np.frombuffer(data, dtype.plain).reshape(shape, order=order)


def _check_shape(shape: Any, dtype: np.dtype[Any], data: bytes | bytearray) -> None:
    plain = isinstance(shape, tuple) and len(shape) <= _MOST_DIMENSIONS
    if not plain or not all(type(size) is int and 0 <= size < _LARGEST_SIZE for size in shape):
        raise ValueError("an array with an invalid shape")
    if math.prod(shape) * dtype.itemsize != len(data) or (math.prod(shape) and not dtype.itemsize):
        raise ValueError(f"an array of shape {shape} has {len(data)} bytes")


def _encode(text: str, _: str) -> bytes:
    """`_codecs.encode`, which pickles of protocol 2 use for bytes."""
    return text.encode("latin-1")


def _set(*items: Any) -> tuple[Any, ...]:
    """A set of a list, as a tuple: no checkpoint needs one, and its elements could be chosen to take forever."""
    return _size(*items or ([],))


def _size(items: Any) -> tuple[Any, ...]:
    """A `torch.Size`, as a tuple. Of a string it could be much larger than what the pickle stores."""
    if not isinstance(items, list | tuple):
        raise TypeError("elements that are not in a list")
    return tuple(items)


def _counter(*counts: Any) -> Any:
    if not all(isinstance(one, dict) for one in counts):
        raise TypeError("counts that are not in a dict")
    return counts[0] if counts else {}


def _bytes(data: bytes | str = b"", *_: object) -> bytes:
    """`bytes` or `bytearray` of text or of bytes; the real ones also make those of any length."""
    if not isinstance(data, bytes | str):
        raise TypeError("bytes of something other than text")
    return data.encode("latin-1") if isinstance(data, str) else data


def _object(kind: Any, *_: object) -> Any:
    """`copyreg._reconstructor`, which makes an instance of a class without calling it."""
    return _class(kind)()


def _class(kind: Any) -> type[StubObject]:
    """A class, also for its parametrised form (`typing.Union[int, str]`)."""
    if not (isinstance(kind, type) and issubclass(kind, StubObject)):
        raise TypeError("something other than a class")
    return kind


def _path(*parts: str) -> str:
    """A `pathlib.Path`, as a string."""
    return "/".join(parts).replace("//", "/", 1) if parts[0] == "/" else "/".join(parts)


def _device(kind: str, index: int | None = None) -> str:
    """A `torch.device`, as a string: "cuda:0"."""
    return kind if index is None else f"{kind}:{index}"


# NumPy has no 8-bit floating-point numbers: these arrays are not recognised as numbers, and no weights
_DTYPES_OF_V3 = {kind: np.dtype(f"<{kind[0]}{int(kind[4:]) // 8}") for kind in ("uint16", "uint32", "uint64")}
_DTYPES_OF_V3 |= {
    kind: np.dtype([(kind, "u1")]) for kind in ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz")
}
# a torch.dtype is a string, as in the config of nanoGPT
_DTYPES = (
    *("float16", "float32", "float64", "bfloat16", "float8_e4m3fn", "float8_e5m2", "complex64", "complex128", "bool"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)
_STORAGES: dict[str, Any] = {
    **{"Float": "<f4", "Double": "<f8", "Half": "<f2", "Long": "<i8", "Int": "<i4", "Short": "<i2", "Char": "i1", "Byte": "u1"},
    **{"Bool": "?", "BFloat16": BFLOAT16, "ComplexFloat": "<c8", "ComplexDouble": "<c16"},
}
NAMES: dict[str, Any] = {
    "collections.OrderedDict": lambda: _StateDict(),
    "collections.defaultdict": lambda *_: _StateDict(),
    "collections.Counter": _counter,
    "collections.deque": lambda *_: [],
    **{f"{module}.{kind}": _bytes for module in ("builtins", "__builtin__") for kind in ("bytes", "bytearray")},
    "operator.getitem": lambda kind, _: _class(kind),
    **{f"{module}.getattr": _member for module in ("builtins", "__builtin__")},
    **{f"{module}.{kind}": _set for module in ("builtins", "__builtin__") for kind in ("set", "frozenset")},
    "copyreg._reconstructor": _object,
    "copy_reg._reconstructor": _object,
    **{f"{module}.{system}Path": _path for module in ("pathlib", "pathlib._local") for system in ("Posix", "Windows")},
    **{f"{module}.Pure{system}Path": _path for module in ("pathlib", "pathlib._local") for system in ("Posix", "Windows")},
    "torch.device": _device,
    **{f"torch.{kind}": kind for kind in _DTYPES},
    "torch.Size": _size,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._utils._rebuild_tensor": _old_tensor,
    "torch._tensor._rebuild_from_type_v2": _with_attributes,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_dtype,
    "torch.storage.UntypedStorage": np.dtype("u1"),
    **{f"torch.{kind}Storage": np.dtype(code) for kind, code in _STORAGES.items()},
    "_codecs.encode": _encode,
    "numpy.dtype": _Dtype,
    "numpy.ndarray": None,  # the argument of `_reconstruct`
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _from_buffer for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray._reconstruct": _reconstruct for core in ("core", "_core")},
}


def unpickle(archive: Archive) -> Any:
    """The unpickled object. Raises any exception if the pickle is invalid."""
    return _Unpickler(archive).load()


class _Unpickler(pickle.Unpickler):
    def __init__(self, archive: Archive) -> None:
        super().__init__(io.BytesIO(archive.pickle), encoding="utf-8")
        self._archive = archive
        self._stubs: dict[str, type] = {}

    def find_class(self, module: str, name: str) -> Any:
        whole = f"{module}.{name}"
        if whole in NAMES:
            return NAMES[whole]
        if whole not in self._stubs:
            self._stubs[whole] = stub_class(whole)
        return self._stubs[whole]

    def persistent_load(self, pid: Any) -> Any:
        """`pid` is ("storage", dtype, name of the record, device, number of elements), and in old files the part of them.

        In old files it may also be ("module", class, its source code).
        """
        if pid[0] == "module":
            return pid[1]
        kind, dtype, name, _, count, *part = pid
        if kind != "storage" or type(name) is not str or type(count) is not int:
            raise ValueError("an invalid persistent id")
        if not isinstance(dtype, np.dtype):
            raise ValueError(f"data/{name[:60]} has the type {name_of(dtype)}, which is not supported")
        data = self._archive.record(f"data/{name}")
        if len(data) != count * dtype.itemsize:
            raise ValueError(f"data/{name[:60]} has {len(data)} bytes, expected {count} elements of {dtype}")
        if part and part[0] is not None:
            _, start, length = part[0]
            if not 0 <= start <= start + length <= count:
                raise ValueError(f"a part of data/{name[:60]} that it does not have")
            data = data[start * dtype.itemsize : (start + length) * dtype.itemsize]
        return _Storage(data, dtype)
