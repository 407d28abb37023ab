"""Files and folders of a commit, with their sizes; LFS pointers are resolved to the sizes of their files."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pygit2
from pygit2.enums import FileMode

from .refusal import entry_not_found
from .repository import Repository

# git-lfs pointers are smaller than 1024 bytes by specification, so larger blobs need not be read
MAX_POINTER_SIZE = 1024
_POINTER = re.compile(rb"version https://git-lfs\.github\.com/spec/v1\noid sha256:([0-9a-f]{64})\nsize (\d+)\n")


@dataclass(frozen=True)
class Pointer:
    """An LFS pointer, which git stores in place of a large file: its sha256, and its size in bytes."""

    oid: str
    size: int

    def encode(self) -> bytes:
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.oid}\nsize {self.size}\n".encode()


@dataclass(frozen=True)
class Entry:
    """A file or folder. `oid` is git's; `size` is of the content in bytes, behind the pointer where there is one."""

    path: str
    oid: str
    is_folder: bool
    size: int = 0
    pointer: Pointer | None = None
    stored_size: int = 0  # of the blob in git: the pointer's, for a large file

    @property
    def content_oid(self) -> str:
        """Identifies the content, and is its ETag: sha256 for a large file, else the git blob id."""
        return self.pointer.oid if self.pointer else self.oid

    @property
    def xet_hash(self) -> str | None:
        """By which a client downloads a large file with Xet: its sha256 (see xet_download). None for other and empty files."""
        return self.pointer.oid if self.pointer and self.size else None


def find_entry(repository: Repository, commit: pygit2.Commit, path: str) -> Entry | None:
    """The file or folder at a path of a commit."""
    try:
        found = commit.tree[path]
    except KeyError:
        return None
    return _entry(repository, found, path)


def find_file(repository: Repository, commit: pygit2.Commit, path: str) -> Entry:
    """Raises Refusal (EntryNotFound)."""
    entry = find_entry(repository, commit, path)
    if entry is None or entry.is_folder:
        raise entry_not_found(path, str(commit.id))
    return entry


def list_entries(repository: Repository, commit: pygit2.Commit, folder: str, recursive: bool) -> Iterator[Entry]:
    """The entries of a folder ("" is the root), with its subfolders if `recursive`. Raises Refusal (EntryNotFound)."""
    tree = commit.tree
    if folder:
        try:
            found = tree[folder]
        except KeyError:
            raise entry_not_found(folder, str(commit.id)) from None
        if not isinstance(found, pygit2.Tree):
            raise entry_not_found(folder, str(commit.id))
        tree = found
    yield from _walk(repository, tree, f"{folder}/" if folder else "", recursive)


def last_commits(repository: Repository, newest: pygit2.Commit, paths: Sequence[str]) -> dict[str, pygit2.Commit]:
    """The last commit that changed each path, from one walk through the history."""
    open_paths, found = set(paths), {}
    for commit in repository.history(newest):
        before = [parent.tree for parent in commit.parents]
        for path in list(open_paths):
            now = _oid_at(commit.tree, path)
            if all(_oid_at(tree, path) != now for tree in before):
                found[path] = commit
                open_paths.remove(path)
        if not open_paths:
            break
    return found


def _oid_at(tree: pygit2.Tree, path: str) -> pygit2.Oid | None:
    try:
        return tree[path].id
    except KeyError:
        return None


def _walk(repository: Repository, tree: pygit2.Tree, prefix: str, recursive: bool) -> Iterator[Entry]:
    for item in tree:
        path = f"{prefix}{item.name}"
        yield _entry(repository, item, path)
        if recursive and isinstance(item, pygit2.Tree):
            yield from _walk(repository, item, f"{path}/", recursive)


def _entry(repository: Repository, item: pygit2.Object, path: str) -> Entry:
    if isinstance(item, pygit2.Tree):
        return Entry(path, str(item.id), is_folder=True)
    if item.filemode == FileMode.COMMIT:  # a submodule has no content here
        return Entry(path, str(item.id), is_folder=True)
    _, size = repository.git.odb.read_header(item.id)
    pointer = read_pointer(repository, item.id) if size <= MAX_POINTER_SIZE else None
    return Entry(path, str(item.id), False, pointer.size if pointer else size, pointer, size)


def read_pointer(repository: Repository, oid: pygit2.Oid) -> Pointer | None:
    """The pointer in a blob; None if it has other content. Only for blobs of at most MAX_POINTER_SIZE bytes."""
    match = _POINTER.fullmatch(repository.git.odb.read(oid)[1])
    return Pointer(match[1].decode(), int(match[2])) if match else None
