"""What this package has in C, for training in bfloat16 on a CPU with AVX-512 BF16: compiled where the package is installed with
a compiler at hand (`hatch_build.py`), and called by ctypes, which lets other Python threads go on."""

import ctypes
import functools
import hashlib
import importlib.metadata
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

MULTIPLE = 32  # of what sizes of matrices are

_NAME = "native.bin"  # and not .so, which would be a Python module to whoever looks for those


def why_not(dtype: torch.dtype) -> str | None:
    """What keeps products in `dtype` from being computed so on this machine's CPU, in words; None where nothing does."""
    capabilities = torch.cpu.get_capabilities()
    if dtype is not torch.bfloat16 or not capabilities.get("avx512_bf16", False):
        return "it is for bfloat16, on a CPU that multiplies it by AVX-512"
    if capabilities.get("amx_bf16", False):
        return "PyTorch's products are for a CPU with AMX"
    return None if _library() else "it was not compiled for this machine when this package was installed"


def library() -> ctypes.CDLL:
    """The functions of the C files here. Where `why_not` gives a reason there are none."""
    found = _library()
    assert found
    return found


def panels_for(weight: Tensor) -> Tensor:
    """Where `pack` puts a weight (in, out): bfloat16, (2, in, out), the order within which is native code's own; `in` is made a
    multiple of 32."""
    rows, columns = weight.shape
    return torch.empty(2, -(-rows // MULTIPLE) * MULTIPLE, columns, dtype=torch.bfloat16)


def pack(weight: Tensor, panels: Tensor) -> None:
    """Write the values of `weight` (in, out), fp32, to its panels."""
    library().pack(ctypes.c_void_p(weight.data_ptr()), len(weight), *panels.shape[1:], ctypes.c_void_p(panels.data_ptr()))


class Scratch:
    """Memory for calls that come one after the other."""

    def __init__(self) -> None:
        self._bytes = torch.empty(0, dtype=torch.uint8)

    def at_least(self, count: int) -> ctypes.c_void_p:
        """The address of as many bytes."""
        if len(self._bytes) < count:
            self._bytes = torch.empty(0, dtype=torch.uint8)  # not both at once
            self._bytes = torch.empty(count, dtype=torch.uint8)
        return ctypes.c_void_p(self._bytes.data_ptr())


@functools.cache
def _library() -> ctypes.CDLL | None:
    """None where it is not there, can't be loaded, or is of other sources."""
    for path in filter(Path.is_file, _places()):
        try:
            found = ctypes.CDLL(str(path))
        except OSError:  # of another machine, or on a disk from which nothing may be executed
            continue
        found.sources_digest.restype = ctypes.c_char_p
        if found.sources_digest().decode() == _digest(Path(__file__).parent / "csrc"):
            for name in ("forward_scratch", "backward_scratch", "orthogonal_scratch", "head_scratch"):
                getattr(found, name).restype = ctypes.c_size_t
            return found
    return None


def _places() -> Iterator[Path]:
    """Beside the sources; and, where a job runs this code from the action's folder, in the package that is installed."""
    yield Path(__file__).with_name(_NAME)
    with suppress(importlib.metadata.PackageNotFoundError):
        distribution = importlib.metadata.distribution("echoself-action")
        yield Path(str(distribution.locate_file(f"echoself_action/native/{_NAME}")))


def _digest(folder: Path) -> str:
    """As hatch_build.py computes it."""
    hashed = hashlib.blake2b(digest_size=16)
    for file in sorted(folder.glob("*.[ch]")):
        hashed.update(file.read_bytes())
    return hashed.hexdigest()
