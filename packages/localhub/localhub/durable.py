"""Writes that survive a kill and a power failure: to a temporary file, synced, renamed, and the folder synced."""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Sync a folder. Without this, a rename in it may be lost in a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folders(folder: Path) -> None:
    """Create a folder and its missing parents, durably."""
    missing = [place for place in (folder, *folder.parents) if not place.is_dir()]
    for place in reversed(missing):
        place.mkdir(exist_ok=True)
        sync_folder(place.parent)


def write_file(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Replace a file atomically: readers see the old or the new content, also after a crash."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    rename(aside, path)


def rename(source: Path, target: Path) -> None:
    source.rename(target)
    sync_folder(target.parent)


def sync_tree(folder: Path) -> None:
    """Sync all files and folders below a folder that was written without syncs."""
    for place, _, files in os.walk(folder):
        for name in files:
            with (Path(place) / name).open("rb") as file:
                os.fsync(file.fileno())
        sync_folder(Path(place))


@contextmanager
def locked(lock_file: Path) -> Iterator[None]:
    """Hold a lock against threads and processes alike. It ends with the process, so a kill leaves nothing behind.

    Lock files are never deleted: a lock on a deleted file would exclude nobody.
    """
    with lock_file.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
