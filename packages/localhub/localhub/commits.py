"""The one commit of an upload: operations onto a tree, a check of the parent, and a ref moved at the end of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import pygit2
from pygit2.enums import FileMode

from .refusal import Refusal, bad_request, entry_not_found
from .repository import Repository
from .tree import find_entry


@dataclass(frozen=True)
class PutFile:
    """Set a path to a blob that is already in the repo (for a large file: its pointer)."""

    path: str
    blob: pygit2.Oid


@dataclass(frozen=True)
class Delete:
    """Take away a file, or a folder with all that is in it."""

    path: str
    is_folder: bool


Operation = PutFile | Delete


@dataclass(frozen=True)
class Proposal:
    """A commit as it was asked for. `parent`: the 40-digit id that the branch must still be at, or None."""

    message: str
    parent: str | None
    operations: Sequence[Operation]
    author: str


def commit_onto(repository: Repository, ref: str, proposal: Proposal) -> pygit2.Commit:
    """Put the proposal on a branch; the branch's head afterwards. Only inside `Storage.change`.

    A proposal that changes nothing makes no commit. One that was sent again, because its answer was lost, is answered
    with the commit it made. Raises Refusal: 412 if the branch has moved on from `parent`.
    """
    head = repository.head(ref)
    if head is None:
        raise Refusal(404, f"There is no {ref}", "RevisionNotFound")
    if _is_already(repository, head, proposal):
        return head
    commit = build_commit(repository, head, proposal)
    if commit.id != head.id:
        repository.set_ref(ref, commit.id)
    return commit


def build_commit(repository: Repository, head: pygit2.Commit, proposal: Proposal) -> pygit2.Commit:
    """The proposal as a commit on top of `head`, or `head` if it changes nothing; no ref is moved. Raises Refusal."""
    if proposal.parent is not None and proposal.parent != str(head.id):
        raise Refusal(
            412, f"A commit has happened since. Please refresh and try again. Expected {proposal.parent}, is {head.id}"
        )
    tree = _apply(repository, head, proposal.operations)
    if tree == head.tree.id:
        return head
    return repository.write_commit(tree, [head.id], proposal.message, proposal.author)


def _is_already(repository: Repository, head: pygit2.Commit, proposal: Proposal) -> bool:
    """Whether `head` is what this very proposal made.

    Files that are put are the same the second time. A deletion is not (its file is gone), so a request of nothing but
    deletions counts as sent again only if it names its parent: otherwise someone deletes what isn't there.
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
    """The tree of `base` after the operations. Deletions come first: a file may take a deleted folder's place."""
    index = pygit2.Index()
    index.read_tree(base.tree)
    for step in operations:
        if isinstance(step, Delete):
            _delete(repository, index, base, step)
    folders = {folder for item in index for folder in _folders(item.path)}
    for step in operations:
        if isinstance(step, PutFile):
            above = _folders(step.path)
            # libgit2 would take both, and write a tree in which one hides the other
            if step.path in folders or any(folder in index for folder in above):
                raise bad_request(f"{step.path}: a file and a folder can't have the same path")
            folders.update(above)
            index.add(pygit2.IndexEntry(step.path, step.blob, FileMode.BLOB))
    return index.write_tree(repository.git)


def _delete(repository: Repository, index: pygit2.Index, base: pygit2.Commit, step: Delete) -> None:
    entry = find_entry(repository, base, step.path)
    if entry is None or entry.is_folder != step.is_folder:
        raise entry_not_found(step.path, str(base.id))
    doomed = [item.path for item in index if item.path == step.path or item.path.startswith(f"{step.path}/")]
    for path in doomed:
        index.remove(path)


def _folders(path: str) -> list[str]:
    """`a/b/c.txt` -> `a`, `a/b`."""
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]
