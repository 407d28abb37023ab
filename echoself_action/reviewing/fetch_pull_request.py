"""Lists the pull requests of a model repo, checks what each would change, and downloads the files of its model.

The content of a pull request is untrusted. Names and sizes are checked against the Hub's listing before anything is downloaded.
Only files on the list of allowed names are downloaded, from the one commit that was listed. No code in them is run.
"""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import utils

from ..checkpoint.architectures import ARCHITECTURES
from ..checkpoint.model_folder import WEIGHTS_FILE
from ..errors import HubError, InputError
from ..formats.runtimes.runtime_formats import PUBLISHED_FILES, PUBLISHED_WEIGHTS
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

LARGEST_WEIGHTS = 4_000_000_000  # bytes: they must fit into the memory of a hosted runner more than once
_MAY_CHANGE = (*MODEL_FILES, *CODE_FILES, CARD_FILE, PROVENANCE_FILE, SIGNATURE_FILE, HISTORY_FILE, CHART_FILE)
_EVENTS = re.compile(r"runs/[0-9a-f-]{1,8}/events\.out\.tfevents\.[0-9]+\.echoself")
# git's own headers in a diff: 120000 is a symbolic link, 160000 another repository
_LINK = re.compile(r"^(?:new file mode|new mode|index [0-9a-f]+\.\.[0-9a-f]+) (?:120000|160000)$", re.MULTILINE)


@dataclass(frozen=True)
class PullRequest:
    """A pull request at the commit `head`.

    `changed` and `removed` are the files that a merge would change and delete, by the Hub's listing. With any `problems` the
    files are not downloaded.
    """

    number: int
    url: str
    head: Listing
    changed: dict[str, RemoteFile]
    removed: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def exports(self) -> dict[str, RemoteFile]:
        """The changed files for other programs, which are not downloaded: the same ones are made from the model."""
        return {name: file for name, file in self.changed.items() if name in PUBLISHED_FILES}


def open_pull_requests(hub: Hub, repo_id: str) -> list[int]:
    """The numbers of the open pull requests, oldest first. Drafts are left out: they are not ready for review."""

    def find() -> list[int]:
        found = hub.api.get_repo_discussions(repo_id, discussion_type="pull_request", discussion_status="open")
        return sorted(one.num for one in found if one.status == "open")

    return with_retries(hub, repo_id, "looking for pull requests", find)


def read_discussion(hub: Hub, repo_id: str, number: int) -> "DiscussionWithDetails":
    """A pull request with its events and its diff. Raises InputError unless it is an open pull request or a draft."""
    found = with_retries(
        hub, repo_id, f"reading pull request {number}", lambda: hub.api.get_discussion_details(repo_id, number)
    )
    if not found.is_pull_request or found.status not in ("open", "draft"):
        what = f"is {found.status}" if found.is_pull_request else "is a discussion"
        raise InputError(
            f"pull_requests: {number} of {repo_id} {what}, not an open pull request. It was not checked.",
            "Use the number of an open pull request, or `open` for all of them.",
        )
    return found


def inspect_changes(hub: Hub, main: Remote, discussion: "DiscussionWithDetails", head: Listing) -> PullRequest:
    """Find what a merge would change. Raises HubError."""
    assert main.model
    base = _base(hub, main, head)
    before = base.files if base else {}
    changed = {name: file for name, file in head.files.items() if before.get(name) != file}
    removed = tuple(sorted(set(before) - set(head.files)))
    problems = [problem for file in changed.values() if (problem := _problem(file))]
    problems += [f"{name} is missing" for name in REQUIRED_FILES if name not in head.files]
    if _LINK.search(discussion.diff or ""):
        problems.append("it contains a symbolic link or a submodule")
    names = [*MODEL_FILES, *CODE_FILES]
    if base is None or any(before.get(name) != main.model.files.get(name) for name in names):
        problems.append(
            "the model on main has changed since it was opened, so a merge would not give the files that are checked here"
        )
    if discussion.conflicting_files:
        problems.append("it conflicts with main")
    return PullRequest(discussion.num, discussion.url, head, changed, removed, tuple(problems))


def list_head(hub: Hub, repo_id: str, number: int) -> Listing:
    """The files of a pull request at its current head."""
    return list_repo(hub, repo_id, f"refs/pr/{number}")


def fetch_files(hub: Hub, repo_id: str, pull_request: PullRequest, folder: Path) -> str | None:
    """Download the files of the model to `folder`. Returns the problem if a file is not on the Hub as listed, else None.

    Raises HubError for errors that the pull request does not cause.
    """
    files = [pull_request.head.files[name] for name in (*MODEL_FILES, PROVENANCE_FILE) if name in pull_request.head.files]
    for file in files:
        try:
            download(hub, repo_id, pull_request.head.commit, file, folder)
        except HubError as error:  # an LFS pointer to a missing or a different file
            if error.__cause__ is None or isinstance(error.__cause__, utils.EntryNotFoundError):
                return f"{file.path} can't be downloaded as the Hub lists it"
            raise
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # written by huggingface_hub
    return None


def _base(hub: Hub, main: Remote, head: Listing) -> Listing | None:
    """The merge base: the newest commit of main in the history of the pull request."""
    assert main.model
    repo_id, tip = main.repo_id, main.model.commit

    def history(commit: str) -> list[str]:
        return [one.commit_id for one in hub.api.list_repo_commits(repo_id, revision=commit)]

    ours = set(with_retries(hub, repo_id, "listing the commits of main", lambda: history(tip)))
    theirs = with_retries(hub, repo_id, "listing the commits of a pull request", lambda: history(head.commit))
    found = next((commit for commit in theirs if commit in ours), None)
    return list_repo(hub, repo_id, found) if found else None


def _problem(file: RemoteFile) -> str | None:
    """Why a file is refused, by its name, its size, and for code its checksum; None if it is allowed."""
    name = file.path
    if name not in _MAY_CHANGE and name not in PUBLISHED_FILES and not _EVENTS.fullmatch(name):
        return f"{name} is not an allowed file of a model repo; the only allowed file for weights is {WEIGHTS_FILE}"
    if name in CODE_FILES and not _is_ours(file):
        return f"{name} is code that differs from this program's own"
    limit = _limit(name)
    return f"{name} has {file.size:,} bytes, the maximum is {limit:,}" if file.size > limit else None


def _is_ours(file: RemoteFile) -> bool:
    code = next(code for one in ARCHITECTURES.values() if (code := one.remote_code().get(file.path)))
    return same_content(code, file)


def _limit(name: str) -> int:
    """The maximum size in bytes, before the config of the model is known."""
    if name == WEIGHTS_FILE or name in PUBLISHED_WEIGHTS:
        return LARGEST_WEIGHTS
    return TOKENIZER_LIMIT if name == "tokenizer.json" else LOG_LIMIT if name == HISTORY_FILE else JSON_LIMIT
