"""A git push, as git's receive-pack would do it, but with the checks and locks of the commit API.

The pack goes to a quarantine, where it is indexed and checked. Only then do its objects become part of the repo, and the refs
move, under the lock of the repo. All is synced before the answer.
"""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path, PurePosixPath

import pygit2
from pygit2.enums import ObjectType

from .accounts import Account
from .discussions import check_may_commit
from .durable import make_folders, sync_folder, sync_tree
from .git_program import FRUGAL, environment
from .names import COMMIT_ID, RepoName, is_ref, parse_ref
from .pushed_objects import check_objects
from .refusal import Refusal, bad_request, forbidden
from .repository import MAIN, Repository
from .storage import Storage

CAPABILITIES = "report-status delete-refs atomic ofs-delta object-format=sha1"
NOTHING = "0" * 40  # in place of a commit, for a ref that does not exist
MAX_UPDATES = 10_000
_FLUSH = b"0000"


@dataclass(frozen=True)
class RefUpdate:
    """Move `ref` from object `old` to `new`; NOTHING creates or deletes it."""

    ref: str
    old: str
    new: str


@dataclass(frozen=True)
class Push:
    """`capabilities`: those of CAPABILITIES that the client uses."""

    updates: Sequence[RefUpdate]
    capabilities: frozenset[str] = frozenset()

    @property
    def has_pack(self) -> bool:
        return any(update.new != NOTHING for update in self.updates)


@dataclass
class _Outcome:
    """`refused`: for each ref that was not moved, the reason. `unpack_error`: why there are no new objects."""

    unpack_error: str = ""
    refused: dict[str, str] = field(default_factory=dict)


def advertisement(repository: Repository) -> bytes:
    """The refs of a repo and the capabilities, which a client asks for before it pushes."""
    announced = _packet("# service=git-receive-pack\n") + _FLUSH
    suffix = f"\0{CAPABILITIES}"
    for ref in sorted(repository.git.references):
        announced += _packet(f"{repository.git.references[ref].target} {ref}{suffix}\n")
        suffix = ""
    return announced + _FLUSH


def receive(storage: Storage, name: RepoName, account: Account, request: FileIO, quarantine: Path) -> bytes:
    """Do the push in `request`, and return the report for the client. `quarantine`: an empty folder on the storage's disk.

    Raises Refusal (400) if the request is not a push, RepoMissingError.
    """
    push = _read(request)
    if not push.updates:  # a client that asks whether it may push
        return b""
    outcome = _Outcome()
    objects = quarantine / "objects"
    repository = storage.open(name)
    targets: dict[str, ObjectType] = {}
    if push.has_pack:
        try:
            _unpack(repository, request, objects)
            repository.git.odb.add_disk_alternate(str(objects))
            check_objects(repository, objects)
            targets = _targets(repository, push.updates)
        except Refusal as refusal:
            outcome.unpack_error = refusal.message
    if outcome.unpack_error:
        outcome.refused = dict.fromkeys((update.ref for update in push.updates), outcome.unpack_error)
    else:
        with storage.change(name) as repository:
            _update(repository, push, account, targets, objects, outcome)
    return _report(push, outcome) if "report-status" in push.capabilities else b""


def _read(request: FileIO) -> Push:
    """Reads up to the pack. Raises Refusal (400)."""
    updates: dict[str, RefUpdate] = {}
    capabilities: frozenset[str] = frozenset()
    while (line := _read_packet(request)) is not None:
        text, _, flags = line.partition(b"\0")
        if text.startswith(b"shallow "):  # the client's clone is shallow: whether the history is whole, the pack shows
            continue
        if not updates:
            capabilities = frozenset(flags.decode("ascii", "replace").split())
        try:
            old, new, ref = text.decode().rstrip("\n").split(" ", 2)
        except ValueError:  # also of UTF-8
            raise bad_request("The push has an invalid command") from None
        if not COMMIT_ID.fullmatch(old) or not COMMIT_ID.fullmatch(new):
            raise bad_request("The push has an invalid command")
        if ref in updates or len(updates) == MAX_UPDATES:
            raise bad_request(f"The push has two commands for a ref, or more than {MAX_UPDATES} commands")
        updates[ref] = RefUpdate(ref, old, new)
    return Push(list(updates.values()), capabilities)


def _read_packet(request: FileIO) -> bytes | None:
    """One pkt-line, None for a flush."""
    prefix = request.read(4)
    try:
        length = int(prefix, 16)
    except ValueError:
        raise bad_request("The push is not in git's format") from None
    if length == 0:
        return None
    line = request.read(length - 4) if length > 4 else b""
    if len(line) != length - 4:
        raise bad_request("The push ends early")
    return line


def _unpack(repository: Repository, request: FileIO, objects: Path) -> None:
    """Index the rest of the request, which is a pack, in a folder of its own. Raises Refusal."""
    (objects / "pack").mkdir(parents=True)
    (objects / "info").mkdir()
    # not by a variable of the environment: in it, a colon in the path would separate two
    (objects / "info" / "alternates").write_text(f"{repository.path / 'objects'}\n")
    # strict: git checks the format of all objects, and that those that they name exist
    # frugal, because a small pack may hold a file of gigabytes
    command = ["git", *FRUGAL, "index-pack", "--stdin", "--fix-thin", "--strict"]
    variables = environment(GIT_DIR=str(repository.path), GIT_OBJECT_DIRECTORY=str(objects))
    run = subprocess.run(command, env=variables, stdin=request, capture_output=True, check=False)
    if run.returncode:
        reason = run.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2].removeprefix("fatal: ")
        raise bad_request(f"git does not accept the pack: {reason}")
    (objects / "info" / "alternates").unlink()


def _targets(repository: Repository, updates: Sequence[RefUpdate]) -> dict[str, ObjectType]:
    """The types of the objects that the refs shall point to. Raises Refusal for a missing one."""
    targets = {}
    for update in updates:
        if update.new != NOTHING:
            found = repository.git.get(update.new)
            if found is None:
                raise bad_request(f"{update.ref} has no object {update.new}")
            targets[update.new] = ObjectType(found.type)
            if found.type == ObjectType.TAG and found.peel(None).type != ObjectType.COMMIT:
                raise bad_request(f"{update.ref} is a tag of something else than a commit")
    return targets


def _update(
    repository: Repository,
    push: Push,
    account: Account,
    targets: dict[str, ObjectType],
    objects: Path,
    outcome: _Outcome,
) -> None:
    """Check and move the refs. Only inside `Storage.change`."""
    names = {*repository.git.references, *(update.ref for update in push.updates if update.new != NOTHING)}
    folders = {folder for name in names for folder in _folders(name)}
    for update in push.updates:
        try:
            _check_update(repository, update, account, targets.get(update.new))
            # before any ref is moved, so that an atomic push does not fail halfway
            if update.old == NOTHING and (update.ref in folders or any(folder in names for folder in _folders(update.ref))):
                raise Refusal(409, "the name conflicts with another ref")
        except Refusal as refusal:
            outcome.refused[update.ref] = refusal.message
    if outcome.refused and "atomic" in push.capabilities:
        outcome.refused = {update.ref: "atomic push failed" for update in push.updates} | outcome.refused
    accepted = [update for update in push.updates if update.ref not in outcome.refused]
    if accepted and push.has_pack:
        _publish(objects / "pack", repository.path / "objects" / "pack")
    for update in accepted:
        try:
            if update.new == NOTHING:
                repository.delete_ref(update.ref)
            else:
                repository.set_ref(update.ref, update.new)
        except (Refusal, pygit2.GitError, ValueError, OSError):  # refs/heads/a and refs/heads/a/b can't both exist
            outcome.refused[update.ref] = "the name conflicts with another ref"


def _folders(ref: str) -> list[str]:
    """`refs/heads/a/b` -> `refs/heads/a`, and so on: a ref is a file, so none of these can be another ref."""
    return [str(folder) for folder in PurePosixPath(ref).parents]


def _check_update(repository: Repository, update: RefUpdate, account: Account, target: ObjectType | None) -> None:
    """Raises Refusal. Branches may be overwritten, as on the Hub: `git push --force` to main is how Spaces are synced."""
    namespace = next((name for name in ("refs/heads/", "refs/tags/", "refs/pr/") if update.ref.startswith(name)), None)
    if namespace is None or not is_ref(update.ref):
        raise bad_request("only branches, tags and pull requests can be pushed")
    if namespace == "refs/pr/":
        if target is None or repository.head(update.ref) is None:
            raise forbidden("pull requests are not created or deleted by a push")
    else:
        parse_ref(namespace, update.ref.removeprefix(namespace))
    check_may_commit(repository, update.ref, account)
    if update.ref == MAIN and target is None:
        raise bad_request(f"Cannot delete {MAIN}")
    if target is not None and target != ObjectType.COMMIT and not (namespace == "refs/tags/" and target == ObjectType.TAG):
        raise bad_request("this ref must point to a commit")
    reference = repository.git.references.get(update.ref)
    if update.old != (NOTHING if reference is None else str(reference.target)) or update.old == update.new == NOTHING:
        raise Refusal(409, "the ref has changed: fetch first")


def _publish(source: Path, target: Path) -> None:
    """Make an indexed pack part of the repo: the index last, since it is what git looks for."""
    make_folders(target)
    sync_tree(source)
    for path in sorted(source.iterdir(), key=lambda path: path.suffix == ".idx"):
        path.rename(target / path.name)
    sync_folder(target)


def _report(push: Push, outcome: _Outcome) -> bytes:
    report = _packet(f"unpack {_line(outcome.unpack_error) or 'ok'}\n")
    for update in push.updates:
        reason = outcome.refused.get(update.ref)
        report += _packet(f"ok {update.ref}\n" if reason is None else f"ng {update.ref} {_line(reason)}\n")
    return report + _FLUSH


def _line(text: str) -> str:
    return " ".join(text.split())[:500]


def _packet(text: str) -> bytes:
    data = text.encode("utf-8", "replace")
    return f"{len(data) + 4:04x}".encode() + data
