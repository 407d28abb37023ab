"""Checks of the objects of a git push. What the commit API refuses must not come in by another way: paths that are ambiguous,
large files outside LFS, pointers to missing files; nor what would make the repo unreadable."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pygit2

from .git_program import FRUGAL, environment
from .gitattributes import MAX_REGULAR_SIZE
from .lfs import check_object
from .names import MAX_PATH_LENGTH, parse_path
from .refusal import Refusal, bad_request
from .repository import Repository
from .tree import MAX_POINTER_SIZE, read_pointer

MAX_FILES = 1_000_000  # of a commit: a few trees that contain each other many times would be more files than memory holds
MAX_MESSAGE_SIZE = 1024 * 1024  # of a commit or a tag, in bytes
MAX_TREE_SIZE = 64 * 1024 * 1024  # of one folder, in bytes of git's
_END_OF_TIME = 253_402_300_800  # seconds: the year 10000, which has no date in Python
_MODES = (b"100644", b"100664", b"100755", b"120000", b"40000", b"160000")
_FOLDER = b"40000"
_MAX_SIZES = {"commit": MAX_MESSAGE_SIZE, "tag": MAX_MESSAGE_SIZE, "tree": MAX_TREE_SIZE}


def check_objects(repository: Repository, objects: Path) -> None:
    """Check all objects of a folder of pushed ones. `repository` must see them. Raises Refusal."""
    trees, commits, too_large = [], [], set()
    for oid, kind, size in _list(repository, objects):
        if size > _MAX_SIZES.get(kind, size):
            raise bad_request(f"The {kind} {oid} is larger than {_MAX_SIZES[kind]} bytes")
        if kind == "commit":
            commits.append(oid)
        elif kind == "tree":
            trees.append(oid)
        elif kind == "blob" and size > MAX_REGULAR_SIZE:
            too_large.add(oid)
        elif kind == "blob" and size <= MAX_POINTER_SIZE:
            pointer = read_pointer(repository, pygit2.Oid(hex=oid))
            if pointer is not None:
                check_object(repository, pointer)
    for oid in trees:
        for _, name, target in _entries(repository, oid):
            if target in too_large:
                raise bad_request(f"{name} is larger than {MAX_REGULAR_SIZE} bytes: files of that size go through LFS")
    if too_large:
        raise bad_request(f"A file is larger than {MAX_REGULAR_SIZE} bytes: files of that size go through LFS")
    measured: dict[str, tuple[int, int]] = {}
    for oid in commits:
        _check_commit(repository.commit(oid))
        _measure(repository, str(repository.commit(oid).tree_id), measured)


def _list(repository: Repository, objects: Path) -> Iterator[tuple[str, str, int]]:
    """The id, kind and size in bytes of all objects of a folder."""
    command = ["git", *FRUGAL, "cat-file", "--batch-check", "--batch-all-objects", "--unordered"]
    variables = environment(GIT_DIR=str(repository.path), GIT_OBJECT_DIRECTORY=str(objects))
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            oid, kind, size = line.split()
            yield oid, kind, int(size)
    if process.returncode:
        raise bad_request("The pack can't be read")


def _entries(repository: Repository, tree: str) -> Iterator[tuple[bytes, str, str]]:
    """The mode, name and object id of the entries of a tree. Raises Refusal for a name that a path can't have."""
    data, position = repository.git.odb.read(tree)[1], 0
    while position < len(data):
        end = data.index(b"\0", position)
        mode, _, raw_name = data[position:end].partition(b" ")
        position = end + 21
        try:
            name = raw_name.decode()
        except UnicodeDecodeError:
            raise bad_request(f"Invalid path {raw_name!r}: not UTF-8") from None
        if mode not in _MODES:
            raise bad_request(f"{name} has mode {mode!r}: expected a file, a link, a folder or a submodule")
        yield mode, parse_path(name), data[end + 1 : position].hex()


def _measure(repository: Repository, tree: str, measured: dict[str, tuple[int, int]], depth: int = 0) -> tuple[int, int]:
    """How many entries a tree has with all below it, and the length of the longest path. Raises Refusal above the limits."""
    if tree not in measured:
        if depth > MAX_PATH_LENGTH // 2:  # a path with more segments is too long
            raise _too_long()
        count = longest = 0
        for mode, name, target in _entries(repository, tree):
            below = _measure(repository, target, measured, depth + 1) if mode == _FOLDER else (0, -1)
            count += 1 + below[0]
            longest = max(longest, len(name) + 1 + below[1])
        if count > MAX_FILES:
            raise bad_request(f"A commit has more than {MAX_FILES} files")
        if longest > MAX_PATH_LENGTH:
            raise _too_long()
        measured[tree] = count, longest
    return measured[tree]


def _check_commit(commit: pygit2.Commit) -> None:
    """Its texts and dates are shown later, so they must be readable."""
    people = (commit.author, commit.committer)
    try:
        for text in (commit.message, *(person.name for person in people), *(person.email for person in people)):
            text.encode()
    except (UnicodeError, LookupError):
        raise bad_request(f"The message or a name of commit {commit.id} is not valid text") from None
    if not all(0 <= person.time < _END_OF_TIME for person in people):
        raise bad_request(f"A date of commit {commit.id} is out of range")


def _too_long() -> Refusal:
    return bad_request(f"A path is longer than {MAX_PATH_LENGTH} characters")
