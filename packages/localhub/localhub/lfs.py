"""Large files of a repo, in the layout of git-lfs. Uploads go to a temporary file, are hashed, synced and renamed.

An upload has a file of its own under `incoming/`. Its parts are written into that one file at their offsets, so that
completing it costs one read (for the hash) and no copy. Nothing is ever held in memory beyond a block.
"""

import fcntl
import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .durable import make_folders, rename
from .refusal import Refusal, bad_request
from .repository import Repository
from .tree import Pointer

BLOCK = 256 * 1024  # bytes


def object_path(repository: Repository, oid: str) -> Path:
    """The path of the object with this sha256, whether it exists or not."""
    return repository.path / "lfs" / "objects" / oid[:2] / oid[2:4] / oid


def object_size(repository: Repository, oid: str) -> int | None:
    """In bytes; None if the repo doesn't have it."""
    try:
        return object_path(repository, oid).stat().st_size
    except FileNotFoundError:
        return None


def check_object(repository: Repository, pointer: Pointer) -> None:
    """Raises Refusal if the object of a pointer was not uploaded or has another size."""
    size = object_size(repository, pointer.oid)
    if size is None:
        raise bad_request(f"LFS pointer pointed to a file that does not exist: {pointer.oid}")
    if size != pointer.size:
        raise bad_request(f"LFS object {pointer.oid} has {size} bytes, expected {pointer.size}")


class PartWriter:
    """Writes one part of an upload, or all of it, block by block, within its byte range.

    Parts are written side by side, each with a shared lock on the file; the whole takes an exclusive one. So nobody
    writes into a file that is being completed, and nobody completes one that is being written.
    """

    def __init__(self, staged: Path, offset: int, length: int, whole: bool) -> None:
        self._file = _open_locked(staged, os.O_CREAT, fcntl.LOCK_EX if whole else fcntl.LOCK_SH)
        self._offset = offset
        self._length = length
        self._written = 0
        self._digest = hashlib.sha256()

    def write(self, block: bytes) -> None:
        """Raises Refusal if the part exceeds its declared length."""
        if self._written + len(block) > self._length:
            raise bad_request(f"The part is larger than the declared {self._length} bytes")
        view, offset = memoryview(block), self._offset + self._written
        while view:
            count = os.pwrite(self._file.fileno(), view, offset)
            view, offset = view[count:], offset + count
        self._digest.update(block)
        self._written += len(block)

    def finish(self) -> str:
        """Sync the part and return its sha256. Raises Refusal if it is too short."""
        if self._written != self._length:
            raise bad_request(f"Received {self._written} of {self._length} declared bytes")
        os.fsync(self._file.fileno())
        return self._digest.hexdigest()

    def close(self) -> None:
        self._file.close()


@contextmanager
def assembled(staged: Path) -> Iterator[str]:
    """The sha256 of a complete upload; no part can be written inside this context.

    Raises Refusal (503) while parts are still coming in, FileNotFoundError if there is no such upload (any more).
    """
    with _open_locked(staged, 0, fcntl.LOCK_EX) as file:
        yield hashlib.file_digest(file, "sha256").hexdigest()


def publish(repository: Repository, staged: Path, oid: str, pointer: Pointer) -> None:
    """Make a synced upload with sha256 `oid` an object of the repo. Only inside `Storage.change`.

    Raises Refusal if it is not what was announced.
    """
    size = staged.stat().st_size
    if size != pointer.size or oid != pointer.oid:
        staged.unlink()
        raise bad_request(
            f"The upload does not match its declaration: {size} bytes with sha256 {oid}, "
            f"expected {pointer.size} bytes with {pointer.oid}. It was deleted."
        )
    target = object_path(repository, pointer.oid)
    make_folders(target.parent)
    rename(staged, target)


def _open_locked(staged: Path, create: int, lock: int) -> io.FileIO:
    file = io.FileIO(os.open(staged, os.O_RDWR | create, 0o644), "r+")
    try:
        fcntl.flock(file, lock | fcntl.LOCK_NB)
        # the upload may have been completed, and the file moved, between open and lock
        if staged.stat().st_ino == os.fstat(file.fileno()).st_ino:
            return file
    except (BlockingIOError, FileNotFoundError):
        pass
    file.close()
    raise Refusal(503, "Another request is writing to this upload", headers={"Retry-After": "1"})
