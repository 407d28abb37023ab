"""Is this file what `torch.save` writes: a zip of plain records? Looked at without unpacking, and mapped into memory.

torch.save stores every record uncompressed, so a file can't hold more than its own size, and one that says so is refused.
"""

import hashlib
import mmap
import os
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from ...errors import CheckpointError

_ZIP = b"PK\x03\x04"
_HEADER = struct.Struct("<4s22x2H")  # before each record: its mark, and how long its name and what follows it are
_END, _LOCATOR = 22, 20  # bytes of the record that ends a zip, and of that before it which finds zip64's
_FAR_END = 56 + _LOCATOR
_LARGEST_PICKLE = 4 << 20  # bytes: it names the tensors, whose content lies beside it
_MOST_RECORDS = 100_000
# How other files begin that end up under a checkpoint's name.
_OTHERS = {
    b"<": "a web page, or another text with markup: probably the error page of a download",
    b"version https://git-lfs": "a Git LFS pointer, and not the file that it points to (`git lfs pull` gets that)",
    b"\x80": "a bare pickle, as PyTorch wrote them before version 1.6",
    b"\x1f\x8b": "compressed with gzip",
    b"GGUF": "a GGUF model",
    b"\x89HDF": "an HDF5 file",
}


@dataclass(frozen=True)
class Archive:
    """A file that torch.save may have written. `fingerprint` is equal for files of equal content (by their CRCs).

    `records` are where each record begins in `mapped`, and its size, by its name below the root.
    """

    path: Path
    size: int
    pickle: bytes
    fingerprint: str
    mapped: mmap.mmap
    records: Mapping[str, tuple[int, int]]

    def record(self, name: str) -> memoryview:
        """The content of a record, mapped. Raises ValueError where there is none."""
        if name not in self.records:
            raise ValueError(f"there is no record {name[:60]!r}")
        start, size = self.records[name]
        return memoryview(self.mapped)[start : start + size]

    def release(self) -> None:
        """Let go of the pages of the mapped file that are in memory. They are read again when they are needed."""
        if hasattr(mmap, "MADV_DONTNEED"):  # Windows has none
            self.mapped.madvise(mmap.MADV_DONTNEED)


def open_archive(path: Path) -> Archive:
    """Check the zip at `path`, reading its directory and its pickle. Raises CheckpointError where it is none of PyTorch's."""
    if path.is_dir():
        refuse(path, "is a folder, not a .pt file", "Give a model folder as it is, or the .pt file itself.")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            begins = file.read(512)
            file.seek(-min(size, _END + _FAR_END), os.SEEK_END)
            ends = file.read()
        if not begins.startswith(_ZIP):
            refuse(path, f"is not a PyTorch checkpoint: it is {_what_it_is(begins)}")
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            if not _ends_with_its_directory(size, ends):
                refuse(path, "is a zip whose directory is not at its end, and readers do not agree on what is in it")
            # a private copy: PyTorch wants what it computes with to be writable
            return _checked(path, size, archive, mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY))
    except OSError as error:
        refuse(path, f"can't be read: {error.strerror or error}", "Check the path.")
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError, struct.error) as error:
        refuse(path, f"is damaged: {_one_line(error)} ({size:,} bytes are there). It was probably cut short")


def refuse(path: Path, why: str, hint: str = "Download or copy it again, or use another checkpoint.") -> NoReturn:
    """The one error of a file that is not used. `why` may have names out of the file: they stay on one line."""
    why = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in why)
    raise CheckpointError(f"{path} {why}. It was not used, and no code in it was run.", hint)


def _checked(path: Path, size: int, archive: zipfile.ZipFile, mapped: mmap.mmap) -> Archive:
    records = archive.infolist()
    names = [record.filename for record in records]
    if len(records) > _MOST_RECORDS:
        refuse(path, f"has {len(records):,} records, more than any checkpoint")
    if any(name.endswith("/constants.pkl") for name in names):
        refuse(path, "is a TorchScript program, not a checkpoint")
    packed = next((record for record in records if record.compress_type != zipfile.ZIP_STORED or record.flag_bits & 1), None)
    if packed:
        refuse(path, f"has a compressed record ({packed.filename[:80]!r}), which torch.save never writes")
    declared = sum(record.file_size for record in records)
    if declared > size or any(record.file_size != record.compress_size for record in records):
        refuse(path, f"says that it holds {declared:,} bytes, and the file has {size:,}")
    if len({name.lower() for name in names}) < len(names):  # PyTorch looks for them without regard to case
        refuse(path, "has two records of one name")
    pickles = [
        record for record in records if record.filename.lower().endswith("/data.pkl") and record.filename.count("/") == 1
    ]
    if len(pickles) != 1:
        refuse(path, "was not written by torch.save: it is a zip file without a `data.pkl`")
    root = pickles[0].filename[: -len("data.pkl")]
    if root + "byteorder" in names and archive.read(root + "byteorder") != b"little":
        refuse(path, "was written on a big-endian machine")
    if pickles[0].file_size > _LARGEST_PICKLE:
        refuse(path, f"has a pickle of {pickles[0].file_size:,} bytes, more than any checkpoint ({_LARGEST_PICKLE:,})")
    content = archive.read(pickles[0])
    listing = hashlib.sha256(content)
    for record in records:
        listing.update(f"{record.filename.removeprefix(root)}\0{record.file_size}\0{record.CRC}\n".encode())
    places = {record.filename.removeprefix(root): (_start(mapped, record), record.file_size) for record in records}
    return Archive(path, size, content, listing.hexdigest(), mapped, places)


def _start(mapped: mmap.mmap, record: zipfile.ZipInfo) -> int:
    """Where its content begins, which only the header before it tells. Raises ValueError where that is none."""
    mark, name, extra = _HEADER.unpack_from(mapped, record.header_offset)
    start = record.header_offset + _HEADER.size + name + extra
    if mark != _ZIP or start + record.file_size > len(mapped):
        raise ValueError(f"the record {record.filename[:80]!r} is not where the directory says")
    return start  # type: ignore[no-any-return]


def _ends_with_its_directory(size: int, ends: bytes) -> bool:
    """Does the directory lie where the last bytes say, just before them? Else Python, which counts back from the end, and
    PyTorch, which counts from the beginning, could be shown two."""
    far, end = ends[:-_END], ends[-_END:]
    length, offset = struct.unpack("<12x2I2x", end)
    behind = size - _END
    if far[-_LOCATOR:].startswith(b"PK\x06\x07"):  # zip64, which torch.save always writes
        behind -= _FAR_END
        (place,) = struct.unpack("<8xQ4x", far[-_LOCATOR:])
        length, offset = struct.unpack("<40x2Q", far[:-_LOCATOR])
        if place != behind or not far.startswith(b"PK\x06\x06"):
            return False
    return end.startswith(b"PK\x05\x06") and offset + length == behind


def _what_it_is(begins: bytes) -> str:
    if not begins:
        return "empty"
    for start, what in _OTHERS.items():
        if begins.lstrip().startswith(start):
            return what
    if begins[8:9] == b"{" and int.from_bytes(begins[:8], "little") < 1 << 30:
        return "a safetensors file, which is read as part of a model folder"
    try:
        begins.decode("utf-8")
    except UnicodeDecodeError:
        return f"a file of another kind (it begins with {begins[:4].hex(' ')})"
    return "a text"


def _one_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
