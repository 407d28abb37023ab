"""Native kernels for training and evaluation on a CPU: forward and backward pass of GPT-2 and NanEcho, AdamW and Muon.

They are compiled for several instruction sets when the package is installed, if there is a C compiler (`hatch_build.py`); the
best one that the CPU has is chosen at run time, or the one that `ECHOSELF_ISA` names. They are called by ctypes, which releases
the GIL.
"""

import ctypes
import functools
import hashlib
import importlib.metadata
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .. import libraries
from ..errors import InputError
from . import c_api
from .c_api import Kernels

if TYPE_CHECKING:
    import torch

_NAME = "native.bin"  # with the suffix .so, Python could import it as a module
DTYPE_NAMES = {
    "avx512_bf16": "bfloat16",
    "neon_bf16": "bfloat16",
    "avx512": "float32",
    "avx2": "float32",
    "neon": "float32",
    "avx2_bf16": "bfloat16",  # as fast as avx2, for models that were trained in bfloat16 on another CPU
}
"""The name of the dtype of the matrix products of each instruction set."""


def dtype_of(isa: str) -> "torch.dtype":
    """The dtype of the matrix products of an instruction set."""
    dtype: torch.dtype = getattr(libraries.torch, DTYPE_NAMES[isa])  # loaded here: `echoself --version` does not need it
    return dtype


def best_instruction_set() -> str | None:
    """The instruction set of the kernels that `dtype: auto` uses for a new model on this machine; None if there are none.

    Raises InputError if ECHOSELF_ISA names one that can't be used here.
    """
    usable, forced = _usable(), os.environ.get("ECHOSELF_ISA")
    if forced and forced not in usable:
        choice = f", or set it to one of: {', '.join(usable)}." if usable else ": PyTorch then computes everything."
        raise InputError(
            f"ECHOSELF_ISA: the kernels for {forced!r} can't be used: {_why_unusable(forced)}. Nothing was computed.",
            f"Unset ECHOSELF_ISA{choice}",
        )
    return forced or next(iter(usable), None)


def instruction_set(dtype: "torch.dtype") -> str | None:
    """The instruction set whose kernels compute matrix products in `dtype` on this machine; None if there are none.

    ECHOSELF_ISA forces one, and for the other dtype its counterpart with the same registers: evaluations are in float32.
    Raises InputError if ECHOSELF_ISA names one that can't be used here.
    """
    best_instruction_set()  # raises the error
    forced = os.environ.get("ECHOSELF_ISA", "").removesuffix("_bf16")
    of_dtype = (isa for isa in _usable() if DTYPE_NAMES[isa] == _name_of(dtype))
    return next((isa for isa in of_dtype if forced in ("", isa.removesuffix("_bf16"))), None)


def kernels(dtype: "torch.dtype") -> Kernels:
    """The kernels for `instruction_set(dtype)`, which must not be None."""
    name = instruction_set(dtype)
    assert name is not None, dtype
    return _usable()[name]


def any_kernels() -> Kernels:
    """The best kernels for this machine, for arithmetic that does not depend on the dtype of products. There must be some."""
    forced = os.environ.get("ECHOSELF_ISA")
    return _usable()[forced] if forced else next(iter(_usable().values()))


def fastest_dtype() -> "torch.dtype | None":
    """The dtype of the best kernels for this machine, None if there are none.

    Raises InputError if ECHOSELF_ISA names an instruction set that can't be used here.
    """
    isa = best_instruction_set()
    return dtype_of(isa) if isa else None


def why_not(dtype: "torch.dtype") -> str | None:
    """Why native kernels can't compute products in `dtype` on this machine; None if they can."""
    if instruction_set(dtype):
        return None
    if reason := load_error():
        return reason
    name = _name_of(dtype)
    if name not in DTYPE_NAMES.values():
        return f"there are none for dtype: {name}"
    if forced := os.environ.get("ECHOSELF_ISA"):
        return f"ECHOSELF_ISA is {forced}, which has none for dtype: {name}"
    compiled = _compiled()
    if those := [isa for isa in compiled if DTYPE_NAMES[isa] == name]:
        return f"those for dtype: {name} need a CPU with one of these instruction sets: {', '.join(those)}"
    return f"there are none for dtype: {name}, because the C compiler knew only: {', '.join(compiled)}"


def load_error() -> str | None:
    """Why the compiled kernels can't be loaded, whether or not this CPU has their instructions; None if they can."""
    found = _library()
    return found if isinstance(found, str) else None


class Memory:
    """Memory that successive kernel calls reuse. Not thread-safe."""

    def __init__(self) -> None:
        self._bytes = libraries.torch.empty(0, dtype=libraries.torch.uint8)

    def at_least(self, count: int) -> int:
        """The address of at least `count` bytes, valid until the next call."""
        if len(self._bytes) < count:
            self._bytes = libraries.torch.empty(0, dtype=libraries.torch.uint8)  # frees the old memory first
            self._bytes = libraries.torch.empty(count, dtype=libraries.torch.uint8)
        return self._bytes.data_ptr()


def _name_of(dtype: "torch.dtype") -> str:
    return str(dtype).removeprefix("torch.")


def _usable() -> dict[str, Kernels]:
    """The kernels that this CPU can run, the best ones first."""
    library = _library()
    if isinstance(library, str):
        return {}
    found = {name: c_api.kernels(library, name) for name in c_api.instruction_sets(library)}
    return {name: table for name, table in found.items() if table}


def _compiled() -> list[str]:
    """The instruction sets that the library was compiled for, whether or not this CPU has them."""
    library = _library()
    return [] if isinstance(library, str) else c_api.instruction_sets(library)


def _why_unusable(name: str) -> str:
    """Why the kernels for an instruction set can't be used."""
    if reason := load_error():
        return reason
    if name in (compiled := _compiled()):
        return "this CPU does not have the instructions"
    return f"they were compiled for {', '.join(compiled)} only"


@functools.cache
def _library() -> ctypes.CDLL | str:
    """The library, or the reason why it can't be used."""
    reason = "they were not compiled when this package was installed, which needs GCC or Clang"
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
        if c_api.sources_digest(found) != _digest(Path(__file__).parent / "csrc") or not c_api.has_our_structs(found):
            return f"{path} was compiled from other sources: install the package again"
        if not c_api.instruction_sets(found):
            return f"{path} was compiled without any: they are for Linux on x86-64 and aarch64"
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
    for file in sorted(folder.rglob("*.[ch]")):
        hashed.update(file.read_bytes())
    return hashed.hexdigest()
