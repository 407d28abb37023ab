"""Atomic writes of folders and files: written under a temporary name, synced to disk, then renamed."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

TEMPORARY_PREFIX = ".writing-"


@contextmanager
def new_folder(final: Path) -> Iterator[Path]:
    """Yield an empty folder that is renamed to `final` when the block ends, or deleted if the block raises.

    Raises FileExistsError if `final` exists: nothing is overwritten (see `set_aside`).
    """
    if final.exists():
        raise FileExistsError(f"{final} already exists")
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY_PREFIX}{final.name}-", dir=final.parent))
    try:
        yield temporary
        temporary.chmod(0o755)  # mkdtemp creates it with mode 0700
        for folder, _, names in os.walk(temporary):
            for name in names:
                Path(folder, name).chmod(0o644)  # safetensors creates files with mode 0600
                _sync(Path(folder, name))
            _sync(Path(folder))
        temporary.rename(final)
        _sync(final.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


@contextmanager
def new_file(final: Path) -> Iterator[IO[bytes]]:
    """Yield an empty file that replaces `final` when the block ends, or is deleted if the block raises."""
    final.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(prefix=TEMPORARY_PREFIX, dir=final.parent, delete=False) as file:
        temporary = Path(file.name)
        try:
            yield file
            file.flush()
            temporary.chmod(0o644)
            _sync(temporary)
            temporary.replace(final)
            _sync(final.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def set_aside(folder: Path) -> Path:
    """Move `folder` to a dated folder in the same directory and return its new path. Nothing is deleted."""
    place = folder.parent / f"superseded-{time.strftime('%Y%m%d-%H%M%S')}"
    place.mkdir(exist_ok=True)
    target = place / folder.name
    number = 1
    while target.exists():
        number += 1
        target = place / f"{folder.name}.{number}"
    folder.rename(target)
    return target


def remove_folder(folder: Path) -> None:
    """Delete `folder` atomically: it is renamed first, so an interruption does not leave an incomplete folder."""
    temporary = folder.with_name(f"{TEMPORARY_PREFIX}{folder.name}-removed")
    shutil.rmtree(temporary, ignore_errors=True)
    folder.rename(temporary)
    shutil.rmtree(temporary)


def remove_leftovers(parent: Path) -> None:
    """Delete the temporary files of killed runs in `parent`. Only one run may write there at a time."""
    for leftover in parent.glob(f"{TEMPORARY_PREFIX}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
