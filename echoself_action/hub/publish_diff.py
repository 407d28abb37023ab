"""Describes what a publish would change: the files with their sizes, and a unified diff of each changed text file."""

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from .endpoint import Hub
from .fetch import download
from .publish import Change
from .repo import Listing, RemoteFile
from .upload_checks import is_text

_MAX_TEXT_SIZE = 1_000_000  # bytes; a diff of vocabularies is of no use to a reader
_MAX_DIFF_LINES = 80  # per file


def describe_changes(
    hub: Hub, repo_id: str, planned: Sequence[Change], published: Listing | None, removed: Sequence[str] = ()
) -> Iterator[str]:
    """A line for each file that would be uploaded or deleted, followed by the diffs."""
    old_files = published.files if published else {}
    for change in planned:
        before = f", {old_files[change.path].size:,} now" if change.path in old_files else ""
        yield f"  {'new' if change.is_new else 'changed'}  {change.size:>12,} bytes  {change.path}{before}"
    for name in removed:
        yield f"  removed {old_files[name].size:>12,} bytes  {name}"
    for change in planned:
        if published and change.path in old_files and is_text(change.path):
            yield from _diff(hub, repo_id, published.commit, old_files[change.path], change)


def _diff(hub: Hub, repo_id: str, commit: str, file: RemoteFile, change: Change) -> Iterator[str]:
    if max(change.size, file.size) > _MAX_TEXT_SIZE:
        return
    with TemporaryDirectory() as folder:
        old = _lines(download(hub, repo_id, commit, file, Path(folder)).read_bytes())
    new = _lines(change.content if isinstance(change.content, bytes) else change.content.read_bytes())
    lines = list(difflib.unified_diff(old, new, f"{change.path} at {commit[:12]}", change.path, lineterm="", n=1))
    yield from lines[:_MAX_DIFF_LINES]
    if len(lines) > _MAX_DIFF_LINES:
        yield f"({len(lines) - _MAX_DIFF_LINES:,} more lines of the diff of {change.path} are not shown)"


def _lines(content: bytes) -> list[str]:
    return content.decode("utf-8", "replace").splitlines()
