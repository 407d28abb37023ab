"""The large files of a repo over its whole history: list them, copy them to another repo, delete them for good."""

import os
import secrets
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pygit2
from pygit2.enums import ObjectType, SortMode

from .discussions import list_discussions, save
from .durable import make_folders, rename, sync_folder
from .lfs import object_path, object_size
from .repository import Repository
from .tree import MAX_POINTER_SIZE, read_pointer


@dataclass(frozen=True)
class LargeFile:
    """An object with one of its paths and the ref that it was found in; both are empty if no commit has it."""

    oid: str
    size: int
    pushed_at: datetime
    path: str = ""
    ref: str = ""


def list_large_files(repository: Repository) -> list[LargeFile]:
    """All objects of a repo, also those that only old commits have, newest first."""
    places = _places(repository)
    found = []
    for file in (repository.path / "lfs" / "objects").glob("*/*/*"):
        with suppress(FileNotFoundError):  # it was deleted meanwhile
            status = file.stat()
            path, ref = places.get(file.name, ("", ""))
            found.append(LargeFile(file.name, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC), path, ref))
    return sorted(found, key=lambda one: (one.pushed_at, one.oid), reverse=True)


def _places(repository: Repository) -> dict[str, tuple[str, str]]:
    """For each object that a commit has: its newest path, and the ref. Reads each tree once, in however many commits it is."""
    found: dict[str, tuple[str, str]] = {}
    seen_commits: set[pygit2.Oid] = set()
    seen_trees: set[tuple[pygit2.Oid, str]] = set()
    for ref in _refs(repository):
        head = repository.head(ref)
        for commit in repository.history(head) if head is not None else ():
            if commit.id in seen_commits:
                continue
            seen_commits.add(commit.id)
            for oid, path in _pointers(repository, commit.tree, "", seen_trees):
                found.setdefault(oid, (path, ref))
    return found


def _refs(repository: Repository) -> list[str]:
    """main first, then other branches, tags and pull requests."""
    order = ("refs/heads/main", "refs/heads/", "refs/tags/", "refs/")
    return sorted(
        repository.git.references, key=lambda ref: (next(place for place, one in enumerate(order) if ref.startswith(one)), ref)
    )


def _pointers(
    repository: Repository, tree: pygit2.Tree, prefix: str, seen: set[tuple[pygit2.Oid, str]]
) -> Iterator[tuple[str, str]]:
    if (tree.id, prefix) in seen:
        return
    seen.add((tree.id, prefix))
    for item in tree:
        path = f"{prefix}{item.name}"
        if isinstance(item, pygit2.Tree):
            yield from _pointers(repository, item, f"{path}/", seen)
        elif (oid := _pointer_oid(repository, item)) is not None:
            yield oid, path


def _pointer_oid(repository: Repository, item: pygit2.Object) -> str | None:
    """The sha256 of the object that a blob points to; None for other content."""
    if not isinstance(item, pygit2.Blob) or item.size > MAX_POINTER_SIZE:
        return None
    pointer = read_pointer(repository, item.id)
    return pointer.oid if pointer else None


def copy_objects(source: Repository, target: Repository, oids: Collection[str], incoming: Path) -> list[str]:
    """Give another repo these objects; returns those that the source does not have. Only inside `Storage.change` of the target.

    Objects never change, so both repos share the file on the disk where the file system allows it. `incoming` is the folder
    for incomplete files.
    """
    missing = []
    for oid in oids:
        if object_size(target, oid) is not None:
            continue
        aside = incoming / f"copy-{secrets.token_hex(16)}"
        try:
            _link_or_copy(object_path(source, oid), aside)
        except FileNotFoundError:
            missing.append(oid)
        else:
            make_folders(object_path(target, oid).parent)
            rename(aside, object_path(target, oid))
    return missing


def _link_or_copy(original: Path, aside: Path) -> None:
    try:
        os.link(original, aside)
    except FileNotFoundError:
        raise
    except OSError:  # a file system without hard links
        with original.open("rb") as file, aside.open("xb") as copy:
            shutil.copyfileobj(file, copy)
            copy.flush()
            os.fsync(copy.fileno())


def delete_objects(repository: Repository, oids: Collection[str], rewrite_history: bool) -> None:
    """Delete objects for good, and with `rewrite_history` their pointers from all commits. Only inside `Storage.change`.

    After a kill, a repeated request does what is left: rewritten commits have the same ids every time.
    """
    if rewrite_history:
        _Rewriting(repository, frozenset(oids)).rewrite()
    for oid in oids:
        path = object_path(repository, oid)
        with suppress(FileNotFoundError):
            path.unlink()
            sync_folder(path.parent)


class _Rewriting:
    """Leaves pointers to some objects out of every commit that a ref or a pull request has."""

    def __init__(self, repository: Repository, oids: frozenset[str]) -> None:
        self._repository = repository
        self._oids = oids
        self._trees: dict[pygit2.Oid, pygit2.Oid | None] = {}
        self._commits: dict[pygit2.Oid, pygit2.Oid] = {}

    def rewrite(self) -> None:
        """Discussions first: they are right with the old refs too, since a comparison with a rewritten base shows the same."""
        repository = self._repository
        heads = {ref: head for ref in repository.git.references if (head := repository.head(ref)) is not None}
        discussions = [one for one in list_discussions(repository) if one.is_pull_request]
        recorded = {oid for one in discussions for oid in (one.base_commit, one.merge_commit) if oid}
        self._rewrite_commits([*(head.id for head in heads.values()), *(pygit2.Oid(hex=oid) for oid in recorded)])
        for one in discussions:
            merged = self._new(one.merge_commit) if one.merge_commit else None
            changed = replace(one, base_commit=self._new(one.base_commit), merge_commit=merged)
            if changed != one:
                save(repository, changed)
        for ref, head in heads.items():
            if self._commits[head.id] != head.id:
                repository.set_ref(ref, self._new_target(ref, head))

    def _new(self, commit: str) -> str:
        return str(self._commits[pygit2.Oid(hex=commit)]) if commit else commit

    def _new_target(self, ref: str, head: pygit2.Commit) -> pygit2.Oid:
        """The rewritten commit, or a new tag object for it in place of an annotated tag."""
        git = self._repository.git
        found = git[git.references[ref].resolve().target]
        if not isinstance(found, pygit2.Tag):
            return self._commits[head.id]
        text = git.odb.read(found.id)[1]
        return git.odb.write(ObjectType.TAG, b"object %s\n" % str(self._commits[head.id]).encode() + text.partition(b"\n")[2])

    def _rewrite_commits(self, heads: Sequence[pygit2.Oid]) -> None:
        git = self._repository.git
        walker = git.walk(None, SortMode.TOPOLOGICAL | SortMode.REVERSE)
        for head in heads:
            walker.push(head)
        for commit in walker:  # parents first
            tree = self._tree(commit.tree) or git.TreeBuilder().write()
            parents = [self._commits[parent] for parent in commit.parent_ids]
            if tree == commit.tree_id and parents == list(commit.parent_ids):
                self._commits[commit.id] = commit.id
            else:
                self._commits[commit.id] = git.create_commit(
                    None, commit.author, commit.committer, commit.message, tree, parents
                )

    def _tree(self, tree: pygit2.Tree) -> pygit2.Oid | None:
        """The tree without the pointers; None if nothing is left of it."""
        if tree.id not in self._trees:
            self._trees[tree.id] = self._build(tree)
        return self._trees[tree.id]

    def _build(self, tree: pygit2.Tree) -> pygit2.Oid | None:
        builder = self._repository.git.TreeBuilder(tree)
        for item in tree:
            assert item.name is not None
            if isinstance(item, pygit2.Tree):
                inside = self._tree(item)
                if inside is None:
                    builder.remove(item.name)
                elif inside != item.id:
                    builder.insert(item.name, inside, item.filemode)
            elif _pointer_oid(self._repository, item) in self._oids:
                builder.remove(item.name)
        return builder.write() if len(builder) else None
