"""Native kernels for training in bfloat16 on a CPU with AVX-512 BF16. They are compiled when the package is installed, if there
is a C compiler (`hatch_build.py`), and called by ctypes, which releases the GIL.
"""

import ctypes
import functools
import hashlib
import importlib.metadata
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from . import c_api

MULTIPLE = 32  # the dimensions of matrices are multiples of this

_NAME = "native.bin"  # with the suffix .so, Python could import it as a module


def why_not(dtype: torch.dtype) -> str | None:
    """Why native kernels can't compute products in `dtype` on this machine; None if they can."""
    capabilities = torch.cpu.get_capabilities()
    if dtype is not torch.bfloat16 or not capabilities.get("avx512_bf16", False):
        return "they need dtype: bfloat16 and a CPU with AVX-512 BF16"
    if capabilities.get("amx_bf16", False):
        return "this CPU has AMX, which PyTorch's kernels use and they do not"
    return load_error()


def load_error() -> str | None:
    """Why the compiled kernels can't be loaded, whether or not this CPU has their instructions; None if they can."""
    found = _library()
    return found if isinstance(found, str) else None


def library() -> ctypes.CDLL:
    """The compiled kernels. Only call this if `why_not` returns None."""
    found = _library()
    assert isinstance(found, ctypes.CDLL), found
    return found


def panels_for(weight: Tensor) -> Tensor:
    """An empty tensor for the packed panels of `weight` (in, out) and of its transpose: bfloat16, (2, padded in, out). `in` is
    padded to a multiple of 32."""
    rows, columns = weight.shape
    return torch.empty(2, -(-rows // MULTIPLE) * MULTIPLE, columns, dtype=torch.bfloat16)


def pack(weight: Tensor, panels: Tensor) -> None:
    """Write `weight` (in, out), fp32, to its panels, as the kernels read it."""
    library().echoself_pack(weight.data_ptr(), len(weight), *panels.shape[1:], panels.data_ptr())


class Scratch:
    """Memory that successive kernel calls reuse."""

    def __init__(self) -> None:
        self._bytes = torch.empty(0, dtype=torch.uint8)

    def at_least(self, count: int) -> ctypes.c_void_p:
        """The address of at least `count` bytes, valid until the next call."""
        if len(self._bytes) < count:
            self._bytes = torch.empty(0, dtype=torch.uint8)  # frees the old memory first
            self._bytes = torch.empty(count, dtype=torch.uint8)
        return ctypes.c_void_p(self._bytes.data_ptr())


@functools.cache
def _library() -> ctypes.CDLL | str:
    """The library, or the reason why it can't be used."""
    reason = "they were not compiled when this package was installed, which needs a C compiler"
    for path in filter(Path.is_file, _places()):
        found = _loaded(path)
        if isinstance(found, ctypes.CDLL):
            return found
        reason = found
    return reason


def _loaded(path: Path) -> ctypes.CDLL | str:
    """The library at `path`, or why it can't be used."""
    try:
        found = ctypes.CDLL(str(path))
    except OSError as error:  # compiled for another machine, or on a disk that is mounted noexec
        return f"{path} can't be loaded: {error}"
    try:
        digest = c_api.sources_digest(found)
        if not digest:
            return f"{path} was compiled without them: they need GCC on x86-64"
        if digest != _digest(Path(__file__).parent / "csrc") or not c_api.has_our_structs(found):
            return f"{path} was compiled from other sources: install the package again"
        c_api.declare(found)
    except AttributeError as error:
        return f"{path} is not a library of this package: {error}"
    return found


def _places() -> Iterator[Path]:
    """Beside this file; and in the installed package, because `runtime: host` runs this code from the action's folder."""
    yield Path(__file__).with_name(_NAME)
    with suppress(importlib.metadata.PackageNotFoundError):
        distribution = importlib.metadata.distribution("echoself-action")
        yield Path(str(distribution.locate_file(f"echoself_action/native/{_NAME}")))


def _digest(folder: Path) -> str:
    """The digest of the C sources, as hatch_build.py computes it."""
    hashed = hashlib.blake2b(digest_size=16)
    for file in sorted(folder.glob("*.[ch]")):
        hashed.update(file.read_bytes())
    return hashed.hexdigest()
