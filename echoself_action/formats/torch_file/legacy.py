"""Opens a file of `torch.save` from before PyTorch 1.6, which is not a zip (`_use_new_zipfile_serialization=False`).

It is five pickles and then the storages: a magic number, the version of the format, facts about the machine, the object, and
the keys of the storages. Each storage follows in the order of the keys: the number of its elements (int64), and the elements.
They begin at any byte, so views of the file may be unaligned.
"""

import io
import mmap
import pickle
import pickletools
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from .archive import LARGEST_PICKLE, MOST_RECORDS, Archive, fingerprint, refuse, refuse_damaged
from .pickle_check import check_pickle, check_plain_pickle
from .unpickle import NAMES

_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001
_SMALL = 4096  # bytes of each of the first three pickles
_COUNT = struct.Struct("<q")


def is_legacy(path: Path) -> bool:
    """Whether the file begins with a pickle of protocol 2 or later. False if it can't be read."""
    try:
        with path.open("rb") as file:
            return file.read(1) == b"\x80"
    except OSError:
        return False


def open_legacy(path: Path) -> Archive:
    """Open the file at `path`, reading and checking its pickles.

    Raises CheckpointError if torch.save did not write it, and as `check_pickle`.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY)
    except OSError as error:
        refuse(path, f"can't be read: {error.strerror or error}", "Check the path.")
    try:
        return _opened(path, size, mapped)
    except (
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        EOFError,
        pickle.UnpicklingError,
        struct.error,
    ) as error:
        why = (str(error) or type(error).__name__).splitlines()[0][:200]
        refuse_damaged(path, f"{why} (it has {size:,} bytes)")


def _opened(path: Path, size: int, mapped: mmap.mmap) -> Archive:
    start = 0
    facts: list[Any] = []
    for expected in (_MAGIC, _VERSION, None):
        end = _end_of_pickle(mapped[start : start + _SMALL], start, facts, path)
        try:
            facts.append(_plain(mapped[start:end]))
        except Exception:  # a pickle may raise any exception
            _refuse_bare(path)
        if expected and facts[-1] != expected:
            _refuse_bare(path)
        start = end
    if isinstance(facts[2], dict) and facts[2].get("little_endian") is False:
        refuse(path, "was written on a big-endian machine", "Load it with `torch.load` and save it again on this machine.")
    end = _end_of_pickle(mapped[start : start + LARGEST_PICKLE], start, facts, path)
    content, start = mapped[start:end], end
    end = _end_of_pickle(mapped[start : start + LARGEST_PICKLE], start, facts, path)
    keys, start = _plain(mapped[start:end]), end
    if not isinstance(keys, list) or len(keys) > MOST_RECORDS or not all(type(key) is str for key in keys):
        raise ValueError("its list of storages is invalid")
    archive = Archive(path, size, content, fingerprint(mapped), mapped, {})
    kinds = check_pickle(archive)
    records: dict[str, tuple[int, int]] = {}
    for key in keys:
        (count,) = _COUNT.unpack_from(mapped, start)
        start += _COUNT.size
        dtype = NAMES.get(kinds.get(key, ""))
        if not isinstance(dtype, np.dtype):
            raise ValueError(f"storage {key[:60]} has the unsupported type {kinds.get(key)}")
        if not 0 <= count <= (size - start) // dtype.itemsize:
            raise ValueError(f"storage {key[:60]} has {count} elements, more than the file")
        records[f"data/{key}"] = start, count * dtype.itemsize
        start += count * dtype.itemsize
    return replace(archive, records=records)


def _end_of_pickle(content: bytes, start: int, before: list[Any], path: Path) -> int:
    """The offset in the file behind the pickle that begins at `start`, of which `content` is at least all."""
    file = io.BytesIO(content)
    try:
        for _ in pickletools.genops(file):
            pass
    except Exception as error:  # pickletools may raise any exception for an invalid pickle
        if not before:
            _refuse_bare(path)
        if len(content) == LARGEST_PICKLE:
            refuse(
                path, f"has a pickle of more than {LARGEST_PICKLE:,} bytes, more than any checkpoint", "Use another checkpoint."
            )
        raise ValueError(f"pickle {len(before) + 1} is incomplete: {error}") from error
    return start + file.tell()


def _plain(content: bytes) -> Any:
    """The value of a pickle of numbers, strings, lists and dicts. Raises for any other."""
    check_plain_pickle(content)
    return _PlainUnpickler(io.BytesIO(content)).load()


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def _refuse_bare(path: Path) -> NoReturn:
    refuse(
        path,
        "is a bare pickle that torch.save did not write",
        "Load it in the program that wrote it, and save its tensors: `torch.save(state_dict, path)`.",
    )
