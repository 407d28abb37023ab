"""The commit of an upload: applies operations to a tree, checks the parent, and moves the ref last."""

from collections.abc import Sequence
from dataclasses import dataclass

import pygit2
from pygit2.enums import FileMode

from .refusal import Refusal, bad_request, entry_not_found, invalid_path
from .repository import Repository
from .tree import find_entry


@dataclass(frozen=True)
class PutFile:
    """Set a path to a blob that is already in the repo (for a large file: its pointer)."""

    path: str
    blob: pygit2.Oid


@dataclass(frozen=True)
class Delete:
    """Delete a file, or a folder with everything in it. The Hub's `deletedFile` may name a folder too."""

    path: str
    is_folder: bool


Operation = PutFile | Delete


@dataclass(frozen=True)
class Proposal:
    """A requested commit. `parent`: the 40-digit commit id that the branch must still point to, or None."""

    message: str
    parent: str | None
    operations: Sequence[Operation]
    author: str


def commit_onto(repository: Repository, ref: str, proposal: Proposal) -> pygit2.Commit:
    """Commit the proposal to a branch and return the new head. Only inside `Storage.change`.

    A proposal that changes nothing creates no commit. For a repeated request (the client did not get the response to the
    first one), returns the commit of the first. Raises Refusal: 412 if the branch no longer points to `parent`.
    """
    head = repository.head(ref)
    if head is None:
        raise Refusal(404, f"No such ref: {ref}", "RevisionNotFound")
    if _is_already(repository, head, proposal):
        return head
    commit = build_commit(repository, head, proposal)
    if commit.id != head.id:
        repository.set_ref(ref, commit.id)
    return commit


def build_commit(repository: Repository, head: pygit2.Commit, proposal: Proposal) -> pygit2.Commit:
    """The proposal as a commit with parent `head`, or `head` if it changes nothing. Moves no ref. Raises Refusal."""
    if proposal.parent is not None and proposal.parent != str(head.id):
        raise Refusal(
            412,
            "The branch was updated since you opened this page. Please refresh and try again. "
            f"The parent of the commit is {proposal.parent}, the branch points to {head.id}",
        )
    tree = _apply(repository, head, proposal.operations)
    if tree == head.tree.id:
        return head
    return repository.write_commit(tree, [head.id], proposal.message, proposal.author)


def _is_already(repository: Repository, head: pygit2.Commit, proposal: Proposal) -> bool:
    """Whether `head` is the commit that this proposal created.

    Writing files twice has the same result, deleting them twice does not: the second request finds no files. A request that
    only deletes therefore counts as repeated only if it names its parent.
    """
    names_parent = proposal.parent is not None
    if len(head.parents) != 1 or not (names_parent or any(isinstance(step, PutFile) for step in proposal.operations)):
        return False
    parent = head.parents[0]
    if (names_parent and proposal.parent != str(parent.id)) or head.message != proposal.message:
        return False
    try:
        return head.author.name == proposal.author and _apply(repository, parent, proposal.operations) == head.tree.id
    except Refusal:
        return False


def _apply(repository: Repository, base: pygit2.Commit, operations: Sequence[Operation]) -> pygit2.Oid:
    """The tree of `base` after the operations. Deletions are applied first: a file may replace a deleted folder."""
    index = pygit2.Index()
    index.read_tree(base.tree)
    _delete(repository, index, base, [step for step in operations if isinstance(step, Delete)])
    folders = {folder for item in index for folder in folders_above(item.path)}
    for step in operations:
        if isinstance(step, PutFile):
            above = folders_above(step.path)
            # libgit2 would accept both, and write a tree in which one hides the other
            if step.path in folders or any(folder in index for folder in above):
                raise bad_request(f"{step.path}: a file and a folder can't have the same path")
            folders.update(above)
            try:
                index.add(pygit2.IndexEntry(step.path, step.blob, FileMode.BLOB))
            except (pygit2.GitError, OSError, ValueError):
                raise invalid_path(f"Invalid path {step.path!r}: git does not allow it") from None
    return index.write_tree(repository.git)


def _delete(repository: Repository, index: pygit2.Index, base: pygit2.Commit, steps: Sequence[Delete]) -> None:
    """Reads the index once for all deletions: once for each would take minutes for some ten thousand files."""
    if not steps:
        return
    for step in steps:
        entry = find_entry(repository, base, step.path)
        if entry is None or (step.is_folder and not entry.is_folder):
            raise entry_not_found(step.path, str(base.id))
    deleted = {step.path for step in steps}
    doomed = [item.path for item in index if item.path in deleted or not deleted.isdisjoint(folders_above(item.path))]
    for path in doomed:
        index.remove(path)


def folders_above(path: str) -> list[str]:
    """`a/b/c.txt` -> `a`, `a/b`."""
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]
