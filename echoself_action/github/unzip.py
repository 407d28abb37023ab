"""Extracts the zip of an artifact safely: only plain files inside the folder, and within a size limit."""

import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

_MAX_FILES, _MAX_NAME, _MAX_PATH = 10_000, 255, 1000  # the last two in bytes, as file systems allow


class UnsafeZipError(Exception):
    """A zip was not extracted, and no files remain. The message follows the name of the zip."""


def extract(path: Path, folder: Path, max_bytes: int) -> int:
    """Extract the zip at `path` to the new `folder`; returns the number of bytes written. Raises UnsafeZipError."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _check(entries, max_bytes)
            folder.mkdir()
            for entry in entries:
                target = folder.joinpath(*PurePosixPath(entry.filename).parts)
                if entry.is_dir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, target.open("xb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)  # zipfile reads at most the size in the header
        return sum(entry.file_size for entry in entries)
    except UnsafeZipError:
        raise
    except (FileExistsError, NotADirectoryError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise UnsafeZipError("has two entries with one path") from error
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError, zlib.error) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise UnsafeZipError(f"is a damaged zip ({str(error)[:100]})") from error


def _check(entries: list[zipfile.ZipInfo], max_bytes: int) -> None:
    if len(entries) > _MAX_FILES:
        raise UnsafeZipError(f"has {len(entries):,} entries")
    announced = sum(entry.file_size for entry in entries)
    if announced > max_bytes:
        raise UnsafeZipError(f"would extract to {announced:,} bytes, but the limit is {max_bytes:,}")
    for entry in entries:
        name = entry.filename
        parts = name.rstrip("/").split("/")
        odd = len(name.encode()) > _MAX_PATH or any(len(part.encode()) > _MAX_NAME for part in parts)
        if odd or "\\" in name or any(part in ("", ".", "..") for part in parts) or not name.isprintable():
            raise UnsafeZipError(f"has an entry {name[:100]!r}, which may be outside its folder")
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise UnsafeZipError(f"has an entry {name[:100]!r} that is a link or a device")
        if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UnsafeZipError(f"has an entry {name[:100]!r} that is encrypted, or uses a compression that GitHub doesn't")
