"""Opens a `torch.save` file: checks that it is a zip of uncompressed records, without extracting it, and maps it into memory.

torch.save stores every record uncompressed. A file whose records are larger in total than the file itself is refused.
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
_HEADER = struct.Struct("<4s22x2H")  # before each record: signature, and lengths of its name and of the extra field
_END, _LOCATOR = 22, 20  # bytes of the end-of-central-directory record, and of the zip64 locator before it
_FAR_END = 56 + _LOCATOR
LARGEST_PICKLE = 4 << 20  # bytes; the data of the tensors is not in it
MOST_RECORDS = 100_000
_BLOCK = 1 << 24  # bytes that are hashed at a time
_STORE = "Extract it, and zip it again without compression (`zip -0 -r`)."
_DECOMPRESS = "Decompress it first."
# The first bytes of other files that are mistaken for checkpoints: what they are, and what to do instead.
_OTHERS = {
    b"<": ("HTML or XML, probably the error page of a download", "Open its address in a browser: it may need a login."),
    b"version https://git-lfs": ("a Git LFS pointer instead of the file", "Run `git lfs pull`, or check out with `lfs: true`."),
    b"\x1f\x8b": ("compressed with gzip", _DECOMPRESS),
    b"BZh": ("compressed with bzip2", _DECOMPRESS),
    b"\xfd7zXZ": ("compressed with xz", _DECOMPRESS),
    b"\x28\xb5\x2f\xfd": ("compressed with Zstandard", _DECOMPRESS),
    b"GGUF": ("a GGUF model", "Use the checkpoint that it was converted from."),
    b"\x89HDF": ("an HDF5 file", "Save the model with torch.save."),
    b"\x93NUMPY": ("a NumPy array", "Save the model with torch.save."),
}
_TAR, _TAR_AT = b"ustar", 257
_CHECKPOINTS = (".pt", ".pth", ".ckpt", ".safetensors")


@dataclass(frozen=True)
class Archive:
    """A file that torch.save may have written. `fingerprint` is equal for files of equal content (by their CRCs).

    `records` maps the name of each record below the root to its offset in `mapped` and its size.
    """

    path: Path
    size: int
    pickle: bytes
    fingerprint: str
    mapped: mmap.mmap
    records: Mapping[str, tuple[int, int]]

    def record(self, name: str) -> memoryview:
        """The content of a record, mapped. Raises ValueError if it does not exist."""
        if name not in self.records:
            raise ValueError(f"record {name[:60]!r} is missing")
        start, size = self.records[name]
        return memoryview(self.mapped)[start : start + size]

    def release(self) -> None:
        """Free the memory of the mapped pages. They are read from the file again on the next access."""
        release(self.mapped)


def release(mapped: mmap.mmap) -> None:
    """As `Archive.release`."""
    if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
        mapped.madvise(mmap.MADV_DONTNEED)


def fingerprint(mapped: mmap.mmap) -> str:
    """The SHA-256 of a mapped file."""
    digest = hashlib.sha256()
    for start in range(0, len(mapped), _BLOCK):
        digest.update(memoryview(mapped)[start : start + _BLOCK])
        release(mapped)
    return digest.hexdigest()


def open_archive(path: Path) -> Archive:
    """Open the zip at `path`, reading its directory and its pickle. Raises CheckpointError if it is not of torch.save."""
    if path.is_dir():
        refuse(path, "is a folder, not a .pt file", "Give a complete model folder, or the path of a .pt file.")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            begins = file.read(512)
            file.seek(-min(size, _END + _FAR_END), os.SEEK_END)
            ends = file.read()
        if not begins.startswith(_ZIP):
            what, hint = _detected_type(path, begins)
            refuse(path, f"is not a PyTorch checkpoint: it is {what}", hint)
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            if not _ends_with_its_directory(size, ends):
                refuse(path, "is a zip whose directory is not at its end, so different programs would read different content")
            # copy-on-write, because PyTorch expects writable memory
            return _checked(path, size, archive, mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY))
    except OSError as error:
        refuse(path, f"can't be read: {error.strerror or error}", "Check the path.")
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError, struct.error) as error:
        refuse_damaged(path, f"{_one_line(error)} (it has {size:,} bytes)")


def refuse_damaged(path: Path, why: str) -> NoReturn:
    """Raises CheckpointError for a file that is incomplete or was changed."""
    refuse(path, f"is damaged: {why}. It was probably truncated", "Download or copy it again.")


def refuse(path: Path, why: str, hint: str = "Use another checkpoint.") -> NoReturn:
    """Raises CheckpointError for a file that can't be used. `why` may contain names from the file."""
    why = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in why)
    raise CheckpointError(f"{path} {why}. It was not used, and no code in it was run.", hint)


def _checked(path: Path, size: int, archive: zipfile.ZipFile, mapped: mmap.mmap) -> Archive:
    records = archive.infolist()
    names = [record.filename for record in records]
    if len(records) > MOST_RECORDS:
        refuse(path, f"has {len(records):,} records, more than any checkpoint")
    if any(name.endswith("/constants.pkl") for name in names):
        hint = "Save its tensors: `torch.save(torch.jit.load(path).state_dict(), 'model.pt')`."
        refuse(path, "is a TorchScript program, not a checkpoint", hint)
    packed = next((record for record in records if record.compress_type != zipfile.ZIP_STORED or record.flag_bits & 1), None)
    if packed:
        refuse(path, f"has a compressed record ({packed.filename[:80]!r}), which torch.save never writes", _STORE)
    declared = sum(record.file_size for record in records)
    if declared > size or any(record.file_size != record.compress_size for record in records):
        refuse(path, f"declares {declared:,} bytes of records, but has {size:,} bytes")
    if len({name.lower() for name in names}) < len(names):  # PyTorch finds them case-insensitively
        refuse(path, "has two records with one name")
    pickles = [
        record for record in records if record.filename.lower().endswith("/data.pkl") and record.filename.count("/") == 1
    ]
    if len(pickles) != 1:
        inner = next((name for name in names if name.lower().endswith(_CHECKPOINTS)), None)
        hint = f"Extract it first: it contains {inner[:80]}." if inner else "Use another file."
        refuse(path, "was not written by torch.save: it is a zip file without a `data.pkl`", hint)
    root = pickles[0].filename[: -len("data.pkl")]
    if root + "byteorder" in names and archive.read(root + "byteorder") != b"little":
        refuse(path, "was written on a big-endian machine", "Load it with `torch.load` and save it again on this machine.")
    if pickles[0].file_size > LARGEST_PICKLE:
        refuse(path, f"has a pickle of {pickles[0].file_size:,} bytes, more than any checkpoint ({LARGEST_PICKLE:,})")
    content = archive.read(pickles[0])
    listing = hashlib.sha256(content)
    for record in records:
        listing.update(f"{record.filename.removeprefix(root)}\0{record.file_size}\0{record.CRC}\n".encode())
    places = {record.filename.removeprefix(root): (_start(mapped, record), record.file_size) for record in records}
    return Archive(path, size, content, listing.hexdigest(), mapped, places)


def _start(mapped: mmap.mmap, record: zipfile.ZipInfo) -> int:
    """The offset of the record's content, which follows its local header. Raises ValueError if there is no valid header."""
    mark, name, extra = _HEADER.unpack_from(mapped, record.header_offset)
    start = record.header_offset + _HEADER.size + name + extra
    if mark != _ZIP or start + record.file_size > len(mapped):
        raise ValueError(f"record {record.filename[:80]!r} is not at its offset in the directory")
    return start  # type: ignore[no-any-return]


def _ends_with_its_directory(size: int, ends: bytes) -> bool:
    """Whether the central directory ends directly before the last records, at the offset that they give.

    Otherwise Python, which locates it from the end, and PyTorch, which uses the offset, could read different directories.
    """
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


def _detected_type(path: Path, begins: bytes) -> tuple[str, str]:
    """What a file is that begins like this, and what to do about it."""
    if not begins:
        return "empty", "Download or copy it again."
    for start, other in _OTHERS.items():
        if begins.lstrip().startswith(start):
            return other
    if begins[_TAR_AT:].startswith(_TAR):
        return (
            "a tar archive",
            "A checkpoint of PyTorch 0.1: save it again with the program that wrote it, in PyTorch 1.6 or later. Another "
            "archive: extract it.",
        )
    if begins[8:9] == b"{" and int.from_bytes(begins[:8], "little") < 1 << 30:
        return "a safetensors file, which is read as part of a model folder", "Give its folder, with its config.json."
    try:
        begins.decode("utf-8")
    except UnicodeDecodeError:
        hint = (
            "If it holds tokens, as nanoGPT's train.bin, give it as `data`." if path.suffix == ".bin" else "Use another file."
        )
        return f"of an unknown type (it begins with {begins[:4].hex(' ')})", hint
    return "a text file", "Use another file."


def _one_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
