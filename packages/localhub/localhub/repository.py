"""One bare git repo: its revisions, refs and commits."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pygit2
from pygit2.enums import ConfigLevel, FileMode, ObjectType, Option, SortMode

from .durable import sync_folder
from .gitattributes import INITIAL_GITATTRIBUTES
from .names import COMMIT_ID, SHORT_COMMIT_ID, RepoName, is_ref
from .refusal import Refusal, revision_not_found

MAIN = "refs/heads/main"

# an acknowledged commit must survive a power failure, so objects and refs are synced when they are written
pygit2.option(Option.ENABLE_FSYNC_GITDIR, True)
# the user chose the folder; in a container it often belongs to another user id
pygit2.option(Option.SET_OWNER_VALIDATION, False)
pygit2.option(Option.SET_CACHE_MAX_SIZE, 16 * 1024 * 1024)
# what is mapped of pushed packs counts as memory of the process
pygit2.option(Option.SET_MWINDOW_SIZE, 1024 * 1024)
pygit2.option(Option.SET_MWINDOW_MAPPED_LIMIT, 16 * 1024 * 1024)
# the user's git configuration must not change how repos behave
for _level in (ConfigLevel.SYSTEM, ConfigLevel.XDG, ConfigLevel.GLOBAL):
    pygit2.option(Option.SET_SEARCH_PATH, _level, "")


@dataclass(frozen=True)
class NamedRef:
    name: str  # without its namespace
    ref: str
    commit: str


def create_repository(path: Path, author: str, files: Mapping[str, bytes]) -> None:
    """Create a bare repo with branch main and an initial commit of .gitattributes and `files`, as the Hub does."""
    git = pygit2.init_repository(str(path), bare=True, initial_head="main")
    index = pygit2.Index()
    for name, content in {".gitattributes": INITIAL_GITATTRIBUTES.encode(), **files}.items():
        index.add(pygit2.IndexEntry(name, git.create_blob(content), FileMode.BLOB))
    signature = pygit2.Signature(author, f"{author}@localhub.invalid")
    git.create_commit(MAIN, signature, signature, "initial commit", index.write_tree(git), [])


def copy_repository(path: Path, source: "Repository", commit: pygit2.Commit, author: str) -> None:
    """Create a bare repo with the files of a commit of another one as its initial commit, as the Hub duplicates repos."""
    git = pygit2.init_repository(str(path), bare=True, initial_head="main")
    _copy_tree(source.git, commit.tree, git)
    signature = pygit2.Signature(author, f"{author}@localhub.invalid")
    git.create_commit(MAIN, signature, signature, f"Duplicate from {source.name.id}", commit.tree.id, [])


def _copy_tree(source: pygit2.Repository, tree: pygit2.Tree, target: pygit2.Repository) -> None:
    for item in tree:
        if item.id in target.odb:
            continue
        if isinstance(item, pygit2.Tree):
            _copy_tree(source, item, target)
        elif item.filemode != FileMode.COMMIT:  # a submodule has no content here
            target.odb.write(ObjectType.BLOB, source.odb.read(item.id)[1])
    target.odb.write(ObjectType.TREE, source.odb.read(tree.id)[1])


class Repository:
    """An existing repo. Change its refs only inside `Storage.change`, which holds the repo's lock."""

    def __init__(self, name: RepoName, path: Path) -> None:
        self.name = name
        self.path = path
        self.git = pygit2.Repository(str(path))

    def head(self, ref: str) -> pygit2.Commit | None:
        """The commit that a full ref points at (through a tag's object, if it has one)."""
        reference = self.git.references.get(ref)
        return reference.peel(pygit2.Commit) if reference is not None else None

    def resolve(self, revision: str) -> pygit2.Commit:
        """The commit that a branch, tag, HEAD, full ref or commit id means; 7 digits of an id are enough if they are unique.

        Raises Refusal (RevisionNotFound).
        """
        if COMMIT_ID.fullmatch(revision):
            found = self.git.get(revision)
            if isinstance(found, pygit2.Commit):
                return found
            raise revision_not_found(revision)
        if revision == "HEAD":  # no branch or tag has this name
            revision = MAIN
        candidates = [revision] if revision.startswith("refs/") else [f"refs/heads/{revision}", f"refs/tags/{revision}"]
        for ref in candidates:
            if is_ref(ref) and (commit := self.head(ref)) is not None:
                return commit
        if SHORT_COMMIT_ID.fullmatch(revision) and (commit := self._commit_by_prefix(revision)) is not None:
            return commit
        raise revision_not_found(revision)

    def _commit_by_prefix(self, prefix: str) -> pygit2.Commit | None:
        try:
            found = self.git.get(prefix)
        except ValueError:  # several objects begin with it
            return None
        return found if isinstance(found, pygit2.Commit) else None

    def writable_ref(self, revision: str) -> str:
        """The branch or pull request ref that a commit to `revision` goes to. Raises Refusal."""
        if COMMIT_ID.fullmatch(revision):
            raise Refusal(404, f"Invalid rev id: {revision} is a commit, expected a branch", "RevisionNotFound")
        ref = revision if revision.startswith("refs/") else f"refs/heads/{revision}"
        if not ref.startswith(("refs/heads/", "refs/pr/")):
            raise Refusal(400, f"The target of a commit must be a branch or a pull request, not {revision}")
        if not is_ref(ref) or self.head(ref) is None:
            raise revision_not_found(revision)
        return ref

    def refs(self, namespace: str) -> list[NamedRef]:
        """All refs of a namespace such as `refs/heads/`, by name."""
        found = []
        for ref in sorted(self.git.references):
            if ref.startswith(namespace) and (commit := self.head(ref)) is not None:
                found.append(NamedRef(ref.removeprefix(namespace), ref, str(commit.id)))
        return found

    def set_ref(self, ref: str, target: str | pygit2.Oid) -> None:
        """Point a ref at an object, which makes a change visible. Only inside `Storage.change`.

        libgit2 syncs a file and its folder. The folder may be new (objects/d0, refs/heads/feature), so those above it
        are synced here: the objects' before the ref is there, the ref's after. Raises Refusal (409) for `a/b` if there is `a`.
        """
        sync_folder(self.path / "objects")
        try:
            self._clear_stale_lock(ref)
            self.git.references.create(ref, target, force=True)
        except (pygit2.GitError, ValueError, OSError):
            # a ref is a file, so it can't be a folder above another
            others = [one for one in self.git.references if one.startswith(f"{ref}/") or ref.startswith(f"{one}/")]
            if not others:
                raise
            raise Refusal(409, f"Reference {ref} conflicts with {others[0]}") from None
        for folder in (self.path / ref).parents:
            if folder == self.path:
                break
            sync_folder(folder)

    def delete_ref(self, ref: str) -> None:
        """Only inside `Storage.change`."""
        self._clear_stale_lock(ref)
        self._clear_stale_lock("packed-refs")
        self.git.references.delete(ref)

    def write_commit(self, tree: pygit2.Oid, parents: list[pygit2.Oid], message: str, author: str) -> pygit2.Commit:
        """Write a commit that no ref points to yet."""
        signature = pygit2.Signature(author, f"{author}@localhub.invalid")
        oid = self.git.create_commit(None, signature, signature, message, tree, parents)
        return self.commit(oid)

    def commit(self, oid: pygit2.Oid | str) -> pygit2.Commit:
        found = self.git[oid]
        assert isinstance(found, pygit2.Commit)
        return found

    def tree(self, oid: pygit2.Oid | str) -> pygit2.Tree:
        found = self.git[oid]
        assert isinstance(found, pygit2.Tree)
        return found

    def history(self, newest: pygit2.Commit, until: str | None = None) -> Iterator[pygit2.Commit]:
        """Commits from `newest` back, without `until` and its ancestors."""
        walker = self.git.walk(newest.id, SortMode.TOPOLOGICAL | SortMode.TIME)
        if until is not None:
            walker.hide(until)
        return iter(walker)

    def text(self, commit: pygit2.Commit, path: str) -> str:
        """The content of a text file at a commit; empty if it does not exist."""
        try:
            found = commit.tree[path]
        except KeyError:
            return ""
        return found.data.decode("utf-8", "replace") if isinstance(found, pygit2.Blob) else ""

    def _clear_stale_lock(self, ref: str) -> None:
        """Remove git's lock file, which survives a killed server. The repo's lock is held, so no live process uses it."""
        (self.path / f"{ref}.lock").unlink(missing_ok=True)
