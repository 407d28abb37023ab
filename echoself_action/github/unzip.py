"""An artifact's zip, unpacked: plain files, inside their folder, and no more bytes than were announced and allowed."""

import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

_MOST_FILES, _LONGEST_NAME, _LONGEST_PATH = 10_000, 255, 1000  # the last two in bytes: what file systems bear


class UnsafeZipError(Exception):
    """Why a zip was not unpacked, in words that follow its name. Nothing of it is left."""


def unpack(path: Path, folder: Path, most_bytes: int) -> int:
    """Unpack the zip at `path` into the new `folder`; returns the bytes that came out. Raises UnsafeZipError."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _check(entries, most_bytes)
            folder.mkdir()
            for entry in entries:
                target = folder.joinpath(*PurePosixPath(entry.filename).parts)
                if entry.is_dir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, target.open("xb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)  # zipfile gives no more than the announced size
        return sum(entry.file_size for entry in entries)
    except UnsafeZipError:
        raise
    except (FileExistsError, NotADirectoryError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise UnsafeZipError("has two entries in one place") from error
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError, zlib.error) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise UnsafeZipError(f"is a damaged zip ({str(error)[:100]})") from error


def _check(entries: list[zipfile.ZipInfo], most_bytes: int) -> None:
    if len(entries) > _MOST_FILES:
        raise UnsafeZipError(f"has {len(entries):,} entries")
    announced = sum(entry.file_size for entry in entries)
    if announced > most_bytes:
        raise UnsafeZipError(f"would become {announced:,} bytes, and {most_bytes:,} are allowed")
    for entry in entries:
        name = entry.filename
        parts = name.rstrip("/").split("/")
        odd = len(name.encode()) > _LONGEST_PATH or any(len(part.encode()) > _LONGEST_NAME for part in parts)
        if odd or "\\" in name or any(part in ("", ".", "..") for part in parts) or not name.isprintable():
            raise UnsafeZipError(f"has an entry {name[:100]!r}, which may lead out of its folder")
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise UnsafeZipError(f"has an entry {name[:100]!r} that is a link or a device")
        if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UnsafeZipError(f"has an entry {name[:100]!r} that is encrypted, or packed in a way that GitHub doesn't use")
