"""Pull requests that others opened on a model's repo: what each would change, its model's files, and our one comment on it.

Nothing that a pull request holds is believed or run here: names and sizes are judged by the Hub's listing before a byte is
fetched, and what is fetched are files with names of our own list, of the one commit that was looked at.
"""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import huggingface_hub
from huggingface_hub import utils

from ..checkpoint.architectures import ARCHITECTURES
from ..checkpoint.model_folder import WEIGHTS_FILE
from ..errors import HubError, InputError
from ..hub.endpoint import Hub
from ..hub.fetch import download
from ..hub.repo import (
    CARD_FILE,
    CHART_FILE,
    CODE_FILES,
    HISTORY_FILE,
    MODEL_FILES,
    PROVENANCE_FILE,
    REQUIRED_FILES,
    SIGNATURE_FILE,
    Listing,
    Remote,
    RemoteFile,
    list_repo,
    same_content,
)
from ..hub.retry import with_retries
from ..hub.upload_checks import JSON_LIMIT, LOG_LIMIT, TOKENIZER_LIMIT

if TYPE_CHECKING:
    from huggingface_hub import DiscussionWithDetails

LARGEST_WEIGHTS = 4_000_000_000  # bytes: a hosted runner has to hold them in memory, more than once
_MAY_CHANGE = (*MODEL_FILES, *CODE_FILES, CARD_FILE, PROVENANCE_FILE, SIGNATURE_FILE, HISTORY_FILE, CHART_FILE)
_EVENTS = re.compile(r"runs/[0-9a-f-]{1,8}/events\.out\.tfevents\.[0-9]+\.echoself")
# git's own headers in a diff: 120000 is a symbolic link, 160000 another repository
_LINK = re.compile(r"^(?:new file mode|new mode|index [0-9a-f]+\.\.[0-9a-f]+) (?:120000|160000)$", re.MULTILINE)
_MARK = re.compile(r"<!-- echoself-action: ([0-9a-f]{40}) (passed|refused) -->\n")


@dataclass(frozen=True)
class Incoming:
    """A pull request at the commit `head`. `changed` is what it would change, by the Hub's listing; `removed` what it would
    take away; `problems` why its files are not even fetched."""

    number: int
    url: str
    head: Listing
    changed: dict[str, RemoteFile]
    removed: tuple[str, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Said:
    """Our comment on a pull request: on which commit it is, and what it says of it."""

    comment_id: str
    commit: str
    result: str


def open_pull_requests(hub: Hub, repo_id: str) -> list[int]:
    """The numbers of those that are open, oldest first. A draft is not yet meant to be looked at."""

    def find() -> list[int]:
        found = hub.api.get_repo_discussions(repo_id, discussion_type="pull_request", discussion_status="open")
        return sorted(one.num for one in found if one.status == "open")

    return with_retries(hub, repo_id, "looking for pull requests", find)


def read_discussion(hub: Hub, repo_id: str, number: int) -> "DiscussionWithDetails":
    """Raises InputError where this is no pull request that could be merged into main."""
    found = with_retries(
        hub, repo_id, f"reading pull request {number}", lambda: hub.api.get_discussion_details(repo_id, number)
    )
    if not found.is_pull_request or found.status not in ("open", "draft"):
        what = f"is {found.status}" if found.is_pull_request else "is a discussion"
        raise InputError(
            f"pull_requests: {number} of {repo_id} {what}, and there is nothing to merge. It was not checked.",
            "Give the number of an open pull request, or open for all of them.",
        )
    return found


def who_am_i(hub: Hub) -> str | None:
    """The account that our comments are of; None on a Hub without accounts."""
    return str(with_retries(hub, "the account", "looking up the token", hub.api.whoami)["name"]) if hub.has_token else None


def said_before(discussion: "DiscussionWithDetails", me: str | None) -> Said | None:
    """Our comment. Anybody can write such a line, so only those of our own account count."""
    for event in reversed(discussion.events):
        if not isinstance(event, huggingface_hub.DiscussionComment) or event.hidden or me not in (None, event.author):
            continue
        if marked := _MARK.match(event.content):
            return Said(event.id, marked[1], marked[2])
    return None


def say(hub: Hub, repo_id: str, incoming: Incoming, result: str, text: str, before: Said | None) -> None:
    """Put `text` into our comment on a pull request, which is made where there is none. `result`: passed or refused."""
    content = f"<!-- echoself-action: {incoming.head.commit} {result} -->\n{text}"

    def write() -> bool:
        if before:
            hub.api.edit_discussion_comment(repo_id, incoming.number, before.comment_id, content)
        else:
            hub.api.comment_discussion(repo_id, incoming.number, content)
        return True

    def written() -> bool | None:
        found = hub.api.get_discussion_details(repo_id, incoming.number)
        return any(getattr(event, "content", None) == content for event in found.events) or None

    with_retries(hub, repo_id, f"commenting on pull request {incoming.number}", write, written)


def look_at(hub: Hub, main: Remote, discussion: "DiscussionWithDetails", head: Listing) -> Incoming:
    """What a pull request would change. Raises HubError where the Hub can't be asked."""
    assert main.model
    base = _base(hub, main, head)
    before = base.files if base else {}
    changed = {name: file for name, file in head.files.items() if before.get(name) != file}
    removed = tuple(sorted(set(before) - set(head.files)))
    problems = [problem for file in changed.values() if (problem := _problem(file))]
    problems += [f"{name} is missing" for name in REQUIRED_FILES if name not in head.files]
    if _LINK.search(discussion.diff or ""):
        problems.append("it has a symbolic link or a submodule")
    names = [*MODEL_FILES, *CODE_FILES]
    if base is None or any(before.get(name) != main.model.files.get(name) for name in names):
        problems.append("main has another model since it was opened, so that what a merge would give is not what is here")
    if discussion.conflicting_files:
        problems.append("it conflicts with main")
    return Incoming(discussion.num, discussion.url, head, changed, removed, tuple(problems))


def head_of(hub: Hub, repo_id: str, number: int) -> Listing:
    """The files of a pull request, as they are now."""
    return list_repo(hub, repo_id, f"refs/pr/{number}")


def fetch_incoming(hub: Hub, repo_id: str, incoming: Incoming, folder: Path) -> str | None:
    """Its model's files, in `folder`; returns what is wrong with them where the Hub has not what it lists.

    Raises HubError where that is the Hub's trouble, not the pull request's.
    """
    files = [incoming.head.files[name] for name in (*MODEL_FILES, PROVENANCE_FILE) if name in incoming.head.files]
    for file in files:
        try:
            download(hub, repo_id, incoming.head.commit, file, folder)
        except HubError as error:  # a pointer to nothing, or one that lies
            if error.__cause__ is None or isinstance(error.__cause__, utils.EntryNotFoundError):
                return f"{file.path} can't be fetched as the Hub lists it"
            raise
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # the client's own bookkeeping
    return None


def _base(hub: Hub, main: Remote, head: Listing) -> Listing | None:
    """The newest commit of main that a pull request is built on."""
    assert main.model
    repo_id, tip = main.repo_id, main.model.commit

    def history(commit: str) -> list[str]:
        return [one.commit_id for one in hub.api.list_repo_commits(repo_id, revision=commit)]

    ours = set(with_retries(hub, repo_id, "looking at main", lambda: history(tip)))
    theirs = with_retries(hub, repo_id, "looking at a pull request", lambda: history(head.commit))
    found = next((commit for commit in theirs if commit in ours), None)
    return list_repo(hub, repo_id, found) if found else None


def _problem(file: RemoteFile) -> str | None:
    """Why a file can't be taken from a stranger, told by its name, its size, and for code, its checksum."""
    name = file.path
    if name not in _MAY_CHANGE and not _EVENTS.fullmatch(name):
        return f"{name} is none of the files that a model here may have; weights are taken as {WEIGHTS_FILE} alone"
    if name in CODE_FILES and not _is_ours(file):
        return f"{name} is code, and not this program's own"
    limit = _limit(name)
    return f"{name} has {file.size:,} bytes, and {limit:,} is the most here" if file.size > limit else None


def _is_ours(file: RemoteFile) -> bool:
    code = next(code for one in ARCHITECTURES.values() if (code := one.remote_code().get(file.path)))
    return same_content(code, file)


def _limit(name: str) -> int:
    """The most bytes that are fetched before anything is known of the model."""
    if name == WEIGHTS_FILE:
        return LARGEST_WEIGHTS
    return TOKENIZER_LIMIT if name == "tokenizer.json" else LOG_LIMIT if name == HISTORY_FILE else JSON_LIMIT
