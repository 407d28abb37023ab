"""The Hub's folder: its layout, and how repos are created, moved and deleted atomically.

    models/owner/name.git    a bare git repo; also datasets/ and spaces/. In it, next to git's own files:
        lfs/objects/         large files, where git-lfs keeps them
        hub/repo.json        settings;  hub/discussions/N.json
    moved/                   for the old name of a moved repo, its new name
    locks/                   one lock per repo, held while refs or settings change
    incoming/                incomplete uploads, and repos that are being created or deleted
    secret                   signs the URLs of uploads and the tokens of the exchange

Several server processes may serve one folder.
"""

import json
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from .durable import locked, make_folders, rename, sync_folder, sync_tree, write_file
from .lfs_files import copy_objects
from .names import KINDS, RepoName, parse_repo_id
from .repository import Repository, copy_repository, create_repository
from .tree import list_entries

ABANDONED_AFTER = 24 * 3600  # seconds
# what a killed server leaves in a repo: objects that libgit2 was writing, and files of `write_file`
_LEFT_IN_REPOS = ("objects/*_git2_*", "objects/??/*_git2_*", "hub/.*", "hub/discussions/.*")


@dataclass(frozen=True)
class RepoSettings:
    """Who may read a repo. `gated`: False, "auto" or "manual"; `disabled` is set by hand, in repo.json."""

    private: bool = False
    gated: bool | str = False
    disabled: bool = False
    created_at: str = ""


class RepoMissingError(Exception):
    """There is no repo with this name."""


class Storage:
    """All repos under one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.incoming = self.folder / "incoming"
        make_folders(self.incoming)
        make_folders(self.folder / "locks")
        self._sweep()
        self.secret = self._read_secret()

    def exists(self, name: RepoName) -> bool:
        return (self.folder / name.git_folder).is_dir()

    def spelled(self, name: RepoName) -> RepoName:
        """The name as its repo spells it: ids are found in any case. Without such a repo, the name as given."""
        return name if self.exists(name) else _in_any_case(self.folder, name) or name

    def spelled_namespace(self, owner: str) -> str:
        """A namespace as its repos spell it. One without repos is spelled as given."""
        folders = [folder for kind in KINDS for folder in _same_but_for_case(self.folder / f"{kind}s", owner)]
        spellings = [folder.name for folder in folders if any(folder.glob("*.git"))]
        return owner if owner in spellings or not spellings else spellings[0]

    def open(self, name: RepoName) -> Repository:
        """Raises RepoMissingError."""
        if not self.exists(name):
            raise RepoMissingError(name.id)
        return Repository(name, self.folder / name.git_folder)

    @contextmanager
    def change(self, name: RepoName) -> Iterator[Repository]:
        """The repo, with its lock held. Raises RepoMissingError."""
        with self._lock(name):
            yield self.open(name)

    def names(self, kind: str) -> list[RepoName]:
        """All repos of a kind, by owner and name."""
        found = sorted((self.folder / f"{kind}s").glob("*/*.git"))
        return [RepoName(kind, path.parent.name, path.name.removesuffix(".git")) for path in found]

    def create(self, name: RepoName, private: bool, author: str, files: Mapping[str, bytes]) -> None:
        """Create a repo with `files` in its initial commit. Raises FileExistsError; case makes no difference."""
        with self._lock(name), self._creating(name, private) as folder:
            create_repository(folder, author, files)

    def duplicate(self, source: RepoName, target: RepoName, private: bool, author: str) -> None:
        """Create a repo with the files of another one's main, in one commit. Raises RepoMissingError, FileExistsError."""
        with ExitStack() as locks:
            self._lock_both(source, target, locks)
            with self._creating(target, private) as folder:
                original = self.open(source)
                commit = original.resolve("main")
                copy_repository(folder, original, commit, author)
                oids = {entry.pointer.oid for entry in list_entries(original, commit, "", recursive=True) if entry.pointer}
                copy_objects(original, Repository(target, folder), oids, self.incoming)

    @contextmanager
    def _creating(self, name: RepoName, private: bool) -> Iterator[Path]:
        """A folder to make a repo in; afterwards it is the repo `name`. Raises FileExistsError; case makes no difference."""
        target = self.folder / self.spelled(name).git_folder
        if target.exists():
            raise FileExistsError(name.id)
        make_folders(target.parent)
        aside = self.incoming / f"create-{secrets.token_hex(8)}"
        yield aside
        (aside / "hub" / "discussions").mkdir(parents=True)
        settings = RepoSettings(private=private, created_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z"))
        write_file(aside / "hub" / "repo.json", json.dumps(asdict(settings)).encode())
        sync_tree(aside)
        rename(aside, target)
        self._forwarding(name).unlink(missing_ok=True)

    def _lock_both(self, one: RepoName, other: RepoName, locks: ExitStack) -> None:
        """In sorted order, so that two requests can't deadlock; names that differ in case only share a lock."""
        for _, name in sorted({_lock_path(name): name for name in (one, other)}.items()):
            locks.enter_context(self._lock(name))

    def move(self, source: RepoName, target: RepoName) -> None:
        """Raises RepoMissingError, FileExistsError."""
        with ExitStack() as locks:
            self._lock_both(source, target, locks)
            repository = self.open(source)
            destination = self.folder / target.git_folder
            found = self.spelled(target)
            if self.exists(found) and (found != source or target == source):  # a repo may change the case of its own name
                raise FileExistsError(target.id)
            make_folders(destination.parent)
            make_folders(self._forwarding(source).parent)
            write_file(self._forwarding(source), target.id.encode())
            rename(repository.path, destination)
            sync_folder(repository.path.parent)
            self._forwarding(target).unlink(missing_ok=True)

    def moved_to(self, name: RepoName) -> RepoName | None:
        """The current name of a repo that once had this name, in any case; None if there was none, or it was deleted."""
        seen = {name}
        while (forwarding := self._forwarding(name)).is_file():
            name = self.spelled(parse_repo_id(name.kind, forwarding.read_text()))
            if self.exists(name):
                return name
            if name in seen:
                break
            seen.add(name)
        return None

    def delete(self, name: RepoName) -> None:
        """Delete a repo atomically; its files are removed afterwards. Raises RepoMissingError."""
        aside = self.incoming / f"delete-{secrets.token_hex(8)}"
        with self.change(name) as repository:
            repository.path.rename(aside)
            sync_folder(repository.path.parent)
        shutil.rmtree(aside, ignore_errors=True)

    def settings(self, name: RepoName) -> RepoSettings:
        """Raises RepoMissingError."""
        try:
            return RepoSettings(**json.loads((self.folder / name.git_folder / "hub" / "repo.json").read_bytes()))
        except (FileNotFoundError, NotADirectoryError):
            raise RepoMissingError(name.id) from None

    def change_settings(self, name: RepoName, **changes: bool | str) -> None:
        """Raises RepoMissingError."""
        with self.change(name) as repository:
            settings = replace(self.settings(name), **changes)  # type: ignore[arg-type]
            write_file(repository.path / "hub" / "repo.json", json.dumps(asdict(settings)).encode())

    def _forwarding(self, name: RepoName) -> Path:
        """The file with the new name. There is at most one for names that differ in case only."""
        moved = self.folder / "moved"
        exact = moved / name.git_folder
        found = None if exact.exists() else _in_any_case(moved, name)
        return moved / found.git_folder if found else exact

    @contextmanager
    def _lock(self, name: RepoName) -> Iterator[None]:
        lock_file = self.folder / "locks" / _lock_path(name)
        lock_file.parent.mkdir(parents=True, exist_ok=True)
        with locked(lock_file):
            yield

    def _read_secret(self) -> bytes:
        path = self.folder / "secret"
        with locked(self.folder / "locks" / "secret.lock"):
            if not path.exists():
                write_file(path, secrets.token_bytes(32), mode=0o600)
            return path.read_bytes()

    def _sweep(self) -> None:
        """Remove files that a killed server left. Only old ones: another server may use the same folder."""
        for entry in self._leftovers():
            try:
                if time.time() - entry.stat().st_mtime < ABANDONED_AFTER:
                    continue
                if entry.is_dir():
                    shutil.rmtree(entry, ignore_errors=True)
                else:
                    entry.unlink()
            except FileNotFoundError:
                continue  # another server removed it

    def _leftovers(self) -> Iterator[Path]:
        """Files that belong to a request that is running, or was when the server was killed."""
        yield from self.incoming.iterdir()
        yield from (self.folder / "moved").glob("*/*/.*")
        yield from (self.folder / "collections").glob(".*")
        for kind in KINDS:
            for repo in (self.folder / f"{kind}s").glob("*/*.git"):
                for pattern in _LEFT_IN_REPOS:
                    yield from repo.glob(pattern)
                # a push moves the index last, and git reads no pack without it
                packs = repo / "objects" / "pack"
                yield from (path for path in packs.glob("pack-*") if not path.with_suffix(".idx").exists())


def _lock_path(name: RepoName) -> PurePosixPath:
    """In lower case: two requests must not create repos at once whose names differ in case only."""
    return PurePosixPath(str(name.git_folder).lower()).with_suffix(".lock")


def _in_any_case(folder: Path, name: RepoName) -> RepoName | None:
    """The name as an entry of `folder` spells it, None without such an entry."""
    for owner in _same_but_for_case(folder / f"{name.kind}s", name.owner):
        for repo in _same_but_for_case(owner, f"{name.name}.git"):
            return RepoName(name.kind, owner.name, repo.name.removesuffix(".git"))
    return None


def _same_but_for_case(folder: Path, name: str) -> list[Path]:
    """The entries of a folder with this name, in any case. A folder that does not exist has none."""
    try:
        return sorted(entry for entry in folder.iterdir() if entry.name.lower() == name.lower())
    except FileNotFoundError:
        return []
