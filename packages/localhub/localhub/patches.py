"""The changes between two trees as git diffs."""

from collections.abc import Iterator

import pygit2

from .repository import Repository

MAX_COMPARED = 512 * 1024  # bytes of a file


def patches(repository: Repository, difference: pygit2.Diff) -> Iterator[str]:
    """The diff of each file. That of a large one takes seconds and much memory, so it is not computed."""
    for number, delta in enumerate(difference.deltas):
        if max(_stored_size(repository, side.id) for side in (delta.old_file, delta.new_file)) > MAX_COMPARED:
            yield f"diff --git a/{delta.old_file.path} b/{delta.new_file.path}\nThe file is too large to be compared.\n"
        elif (patch := difference[number]) is not None:
            yield patch.data.decode("utf-8", "replace")


def _stored_size(repository: Repository, oid: pygit2.Oid) -> int:
    """0 for the missing side of a file that was added or deleted."""
    return int(repository.git.odb.read_header(oid)[1]) if oid in repository.git.odb else 0
