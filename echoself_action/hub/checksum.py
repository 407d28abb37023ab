"""Is a file here the file on the Hub? Told without fetching it: by sha256 for LFS, by git's blob id for the rest."""

import hashlib
from pathlib import Path

from ..checkpoint.folder import sha256
from .repo import RemoteFile

Content = Path | bytes


def size_of(content: Content) -> int:
    """Bytes."""
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def same_content(content: Content, remote: RemoteFile) -> bool:
    """Whether `content` is byte for byte what the Hub holds as `remote`."""
    if size_of(content) != remote.size:
        return False
    if remote.sha256:
        return _sha256(content) == remote.sha256
    return git_blob_id(content if isinstance(content, bytes) else content.read_bytes()) == remote.blob_id


def git_blob_id(content: bytes) -> str:
    """The id that git gives to a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _sha256(content: Content) -> str:
    return hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else sha256(content)
