"""What a publish would change, in lines to read: the files with their sizes, and how their text differs from what is there."""

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from .endpoint import Hub
from .fetch import download
from .publish import Change
from .repo import Listing, RemoteFile
from .upload_checks import is_text

_LARGEST_TEXT = 1_000_000  # bytes; a difference of vocabularies is nothing to read
_MOST_LINES = 80  # of the difference of one file


def plan(
    hub: Hub, repo_id: str, planned: Sequence[Change], published: Listing | None, removed: Sequence[str] = ()
) -> Iterator[str]:
    """The list of what would be sent, and under it a unified diff of each text that the Hub has otherwise."""
    there = published.files if published else {}
    for change in planned:
        before = f", {there[change.path].size:,} now" if change.path in there else ""
        yield f"  {'new' if change.is_new else 'changed'}  {change.size:>12,} bytes  {change.path}{before}"
    for name in removed:
        yield f"  removed {there[name].size:>12,} bytes  {name}"
    for change in planned:
        if published and change.path in there and is_text(change.path):
            yield from _difference(hub, repo_id, published.commit, there[change.path], change)


def _difference(hub: Hub, repo_id: str, commit: str, file: RemoteFile, change: Change) -> Iterator[str]:
    if max(change.size, file.size) > _LARGEST_TEXT:
        return
    with TemporaryDirectory() as folder:
        old = _lines(download(hub, repo_id, commit, file, Path(folder)).read_bytes())
    new = _lines(change.content if isinstance(change.content, bytes) else change.content.read_bytes())
    lines = list(difflib.unified_diff(old, new, f"{change.path} at {commit[:12]}", change.path, lineterm="", n=1))
    yield from lines[:_MOST_LINES]
    if len(lines) > _MOST_LINES:
        yield f"({len(lines) - _MOST_LINES:,} more lines differ in {change.path})"


def _lines(content: bytes) -> list[str]:
    return content.decode("utf-8", "replace").splitlines()
