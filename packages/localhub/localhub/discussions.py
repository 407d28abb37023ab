"""Discussions and pull requests. The content of a pull request is its ref, refs/pr/N; all else is in one JSON file each."""

import json
import re
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pygit2

from .accounts import Account
from .durable import write_file
from .patches import patches
from .refusal import Refusal, bad_request, forbidden, revision_not_found
from .repository import Repository

# open is what a new one is, draft a pull request that was opened without a commit
OPEN, DRAFT, CLOSED, MERGED = "open", "draft", "closed", "merged"
MAX_DIFF = 8 * 1024 * 1024  # characters
_PULL_REQUEST_REF = re.compile(r"refs/pr/([1-9][0-9]{0,8})")


@dataclass(frozen=True)
class Discussion:
    """`events` are the Hub's own (comment, status-change, title-change). `base`: the full ref that a pull request is for,
    `base_commit`: where it was when the pull request was opened."""

    num: int
    title: str
    author: str
    created_at: str
    is_pull_request: bool
    status: str = OPEN
    base: str = ""
    base_commit: str = ""
    merge_commit: str | None = None
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ref(self) -> str:
        return f"refs/pr/{self.num}"

    def with_event(self, author: str, kind: str, data: dict[str, Any]) -> "Discussion":
        event = {
            "id": f"{len(self.events) + 1:024x}",
            "type": kind,
            "createdAt": _now(),
            "author": {"name": author},
            "data": data,
        }
        return replace(self, events=[*self.events, event])

    def with_comment(self, author: str, text: str) -> "Discussion":
        latest = {"raw": text, "html": "", "updatedAt": _now(), "author": {"name": author}}
        return self.with_event(author, "comment", {"edited": False, "hidden": False, "latest": latest, "history": [latest]})

    def with_edited_comment(self, comment_id: str, author: str, text: str) -> "Discussion":
        """Raises Refusal: 404 if there is no such comment, 403 if another user wrote it."""
        found = next((event for event in self.events if event["id"] == comment_id and event["type"] == "comment"), None)
        if found is None:
            raise Refusal(404, f"Discussion {self.num} has no comment {comment_id}")
        if found["author"]["name"] != author:
            raise Refusal(403, f"Forbidden: comment {comment_id} was not written by {author}")
        latest = {"raw": text, "html": "", "updatedAt": _now(), "author": {"name": author}}
        edited = {**found, "data": {**found["data"], "edited": True, "latest": latest}}
        edited["data"]["history"] = [*found["data"]["history"], latest]
        return replace(self, events=[edited if event is found else event for event in self.events])

    def with_status(self, author: str, status: str) -> "Discussion":
        return replace(self.with_event(author, "status-change", {"status": status}), status=status)


def list_discussions(repository: Repository) -> list[Discussion]:
    """Newest first."""
    return [_read(repository, number) for number in sorted(_numbers(repository), reverse=True)]


def find_discussion(repository: Repository, number: int) -> Discussion:
    """Raises Refusal (404)."""
    try:
        return _read(repository, number)
    except FileNotFoundError:
        raise Refusal(404, f"No such discussion: {number}") from None


def save(repository: Repository, discussion: Discussion) -> None:
    """Only inside `Storage.change`."""
    write_file(_path(repository, discussion.num), json.dumps(asdict(discussion)).encode())


def open_discussion(repository: Repository, author: str, title: str, description: str) -> int:
    """Returns its number. Only inside `Storage.change`."""
    discussion = Discussion(_next_number(repository), title, author, _now(), is_pull_request=False)
    save(repository, discussion.with_comment(author, description))
    return discussion.num


def open_pull_request(
    repository: Repository, author: str, title: str, description: str, head: pygit2.Commit, target: str, draft: bool
) -> int:
    """Open a pull request of `head` for a branch; returns its number. Only inside `Storage.change`. Raises Refusal.

    Its ref is written first and its file last: after a kill in between, the ref exists but no client knows of it.
    """
    base = repository.writable_ref(target)
    if not base.startswith("refs/heads/"):
        raise bad_request(f"The target of a pull request must be a branch, not {target}")
    base_commit = str(repository.resolve(base).id)
    number = _next_number(repository)
    discussion = Discussion(
        number, title, author, _now(), True, status=DRAFT if draft else OPEN, base=base, base_commit=base_commit
    )
    repository.set_ref(discussion.ref, head.id)
    save(repository, discussion.with_comment(author, description))
    return number


def is_changeable_by(discussion: Discussion, account: Account, repository: Repository) -> bool:
    """Whether an account may commit to it, close, reopen and rename it: those with write access and its author may."""
    is_own = account.name == discussion.author and account.may_discuss(repository.name)
    return is_own or account.may_write(repository.name)


def check_may_commit(repository: Repository, ref: str, account: Account) -> None:
    """Raises Refusal if the account may not commit to `ref`, or the pull request that it belongs to is closed or merged."""
    match = _PULL_REQUEST_REF.fullmatch(ref)
    if match and repository.head(ref) is None:
        raise revision_not_found(ref)
    discussion = find_discussion(repository, int(match[1])) if match else None
    may = is_changeable_by(discussion, account, repository) if discussion else account.may_write(repository.name)
    if not may:
        raise forbidden(f"Forbidden: {account.name} may not commit to {ref} of {repository.name.id}")
    if discussion and discussion.status in (CLOSED, MERGED):
        raise forbidden(f"Pull request {discussion.num} is {discussion.status} and accepts no commits")


def conflicts(repository: Repository, discussion: Discussion) -> list[str]:
    """The files that conflict between a pull request and its branch."""
    head, target = repository.resolve(discussion.ref), repository.resolve(discussion.base)
    index = _merged(repository, head, target)
    paths = {side.path for conflict in index.conflicts or () for side in conflict if side is not None}
    return sorted(paths)


def merge(repository: Repository, discussion: Discussion, author: str, comment: str) -> Discussion:
    """Merge a pull request into its branch as one commit, as the Hub does. Only inside `Storage.change`. Raises Refusal.

    A merge whose answer was lost, or that was killed between ref and file, is completed when it is asked for again.
    """
    if not discussion.is_pull_request:
        raise bad_request(f"Discussion {discussion.num} is not a pull request")
    if discussion.status == MERGED:
        return discussion
    if discussion.status != OPEN:
        raise bad_request(f"Pull request {discussion.num} is {discussion.status}: open it first")
    head, target = repository.resolve(discussion.ref), repository.resolve(discussion.base)
    index = _merged(repository, head, target)
    if index.conflicts:
        raise Refusal(409, f"Pull request {discussion.num} conflicts with {discussion.base}")
    tree = index.write_tree(repository.git)
    merged = target
    if tree != target.tree.id:
        summary = f"{discussion.title} (#{discussion.num})"
        commits = [commit.message.partition("\n")[0] for commit in repository.history(head, discussion.base_commit)]
        body = "\n".join(f"- {title}" for title in reversed(commits))
        merged = repository.write_commit(tree, [target.id], f"{summary}\n\n{body}", author)
        repository.set_ref(discussion.base, merged.id)
    if comment:
        discussion = discussion.with_comment(author, comment)
    discussion = replace(discussion.with_status(author, MERGED), merge_commit=str(merged.id))
    save(repository, discussion)
    return discussion


def commit_events(repository: Repository, discussion: Discussion) -> list[dict[str, Any]]:
    """The commits of a pull request as events, oldest first, read off its ref."""
    history = repository.history(repository.resolve(discussion.ref), discussion.base_commit)
    return [
        {
            "id": str(commit.id),
            "type": "commit",
            "createdAt": datetime.fromtimestamp(commit.commit_time, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            "author": {"name": commit.author.name},
            "data": {"subject": commit.message.partition("\n")[0], "oid": str(commit.id)},
        }
        for commit in reversed(list(history))
    ]


def diff(repository: Repository, discussion: Discussion) -> str:
    """The changes of a pull request, as a git diff: the files up to MAX_DIFF characters."""
    before, after = repository.commit(discussion.base_commit), repository.resolve(discussion.ref)
    shown: list[str] = []
    size = 0
    for patch in patches(repository, repository.git.diff(before, after)):
        size += len(patch)
        if size > MAX_DIFF:
            return "".join(shown)
        shown.append(patch)
    return "".join(shown)


def _merged(repository: Repository, head: pygit2.Commit, target: pygit2.Commit) -> pygit2.Index:
    ancestor = repository.git.merge_base(head.id, target.id)
    # after a squash of the branch there is none: then what is on both sides has to be the same
    base = repository.commit(ancestor).tree if ancestor is not None else repository.tree(repository.git.TreeBuilder().write())
    return repository.git.merge_trees(base, target.tree, head.tree)


def _next_number(repository: Repository) -> int:
    taken = [int(ref.name) for ref in repository.refs("refs/pr/") if ref.name.isdigit()]
    return max([0, *_numbers(repository), *taken]) + 1


def _numbers(repository: Repository) -> list[int]:
    return [int(path.stem) for path in (repository.path / "hub" / "discussions").glob("*.json") if path.stem.isdigit()]


def _read(repository: Repository, number: int) -> Discussion:
    return Discussion(**json.loads(_path(repository, number).read_bytes()))


def _path(repository: Repository, number: int) -> Path:
    return repository.path / "hub" / "discussions" / f"{number}.json"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
