"""Publishes a model folder: an explicit list of files, in one commit per branch, on top of the commit that was listed."""

import difflib
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import huggingface_hub

from ..checkpoint.model_folder import CONFIG_FILE, GENERATION_FILE, ModelFolder
from ..checkpoint.vocabulary import TOKENIZER_CONFIG_FILE
from ..errors import HubError, MovedOnError
from .endpoint import Hub
from .fetch import download
from .huggingface_compat import InvalidCardError, validate_card
from .repo import (
    CARD_FILE,
    MAIN,
    MODEL_FILES,
    SPARE_STATE_FILES,
    STATE_BRANCH,
    STATE_FILES,
    Content,
    Listing,
    Remote,
    RemoteFile,
    find_repo,
    list_repo,
    same_content,
    size_of,
)
from .retry import hub_errors, with_retries
from .upload_checks import files_to_upload, is_text, refuse_secrets

if TYPE_CHECKING:
    from huggingface_hub.hf_api import GitCommitInfo


_OF_LOADING = ("_name_or_path", "_commit_hash", "transformers_version")
_LEFTOVERS = {  # of other programs, by file: none is read when the model is loaded
    CONFIG_FILE: _OF_LOADING,
    GENERATION_FILE: _OF_LOADING,
    TOKENIZER_CONFIG_FILE: (
        *("name_or_path", "tokenizer_file", "vocab_file", "merges_file", "special_tokens_map_file", "cache_dir"),
        *("added_tokens_file", "_commit_hash", "transformers_version", "local_files_only", "is_local"),
    ),
}
_MAX_TEXT_SIZE = 1_000_000  # bytes; a diff of vocabularies is of no use to a reader
_MAX_DIFF_LINES = 80  # per file


@dataclass(frozen=True)
class Change:
    """A file that is new or differs on the Hub. `size` in bytes."""

    path: str
    content: Content
    size: int
    is_new: bool


@dataclass(frozen=True)
class CommitResult:
    """The result of a publish. `commit` is the new head of the branch; `deployed` is False if no file had changed.

    For a pull request, `commit` is its head and `deployed` is False, because the branch is unchanged.
    """

    commit: str
    deployed: bool
    changes: tuple[Change, ...]
    pr_url: str = ""


def model_files(folder: ModelFolder, card: str | None) -> dict[str, Content]:
    """The files of the main branch: the model and its card. Raises CheckpointError for a file that must not be published."""
    return _files(folder, MODEL_FILES) | ({CARD_FILE: card.encode()} if card else {})


def state_files(folder: ModelFolder) -> dict[str, Content]:
    """The files of the training state's branch: the newest checkpoint. Raises CheckpointError as `model_files` does."""
    return _files(folder, (*MODEL_FILES, *STATE_FILES, *SPARE_STATE_FILES))


def _files(folder: ModelFolder, names: tuple[str, ...]) -> dict[str, Content]:
    """The existing files of `names`, and our own modeling code if the architecture has any: never a code file of the folder."""
    found = {name: _without_leftovers(name, content) for name, content in files_to_upload(folder, names).items()}
    return found | folder.architecture.remote_code()


def _without_leftovers(name: str, content: Content) -> Content:
    """A JSON file of another program without what describes the machine that wrote it: paths, and versions of libraries."""
    if name not in _LEFTOVERS or not isinstance(content, Path):
        return content
    values = json.loads(content.read_bytes())
    kept = {key: value for key, value in values.items() if key not in _LEFTOVERS[name]}
    return content if kept == values else json.dumps(kept, indent=2, ensure_ascii=False).encode() + b"\n"


def changes(files: Mapping[str, Content], published: Listing | None) -> tuple[Change, ...]:
    """The files that differ from what is published."""
    there = published.files if published else {}
    return tuple(
        Change(name, content, size_of(content), name not in there)
        for name, content in files.items()
        if name not in there or not same_content(content, there[name])
    )


def ensure_repo(hub: Hub, remote: Remote, private: bool) -> Remote:
    """Create the repo, or the branch to publish to, if it does not exist."""
    if remote.model:
        return remote
    name = remote.repo_id
    sdk = "static" if hub.kind == "space" else None
    create = partial(hub.api.create_repo, name, private=private, repo_type=hub.kind, space_sdk=sdk, exist_ok=True)
    with_retries(hub, name, "creating the repo", create)
    if remote.revision != MAIN:
        _make_branch(hub, name, remote.revision, None)
    made = list_repo(hub, remote.repo_id, remote.revision)
    if made.has_model and remote.revision == MAIN:
        raise _moved_on(remote.repo_id, MAIN)
    return replace(remote, model=made)


def publish_model(
    hub: Hub, remote: Remote, files: Mapping[str, Content], message: str, removed: Sequence[str] = ()
) -> CommitResult:
    """Commit `files` to the revision in `remote` and delete `removed`; no commit if nothing would change.

    Raises HubError; MovedOnError if the branch has a newer commit, which is not overwritten.
    """
    assert remote.model
    return _commit(hub, remote.repo_id, remote.revision, files, message, remote.model, removed)


def publish_state(hub: Hub, remote: Remote, files: Mapping[str, Content], message: str) -> CommitResult:
    """Commit `files`, a checkpoint with its training state, to their own branch, which is created if it does not exist.

    Publish it before the model: of two racing jobs the second fails here, and a job that is killed in between leaves a training
    state ahead of the model, from which the next run resumes. Raises HubError; MovedOnError if the branch has a newer commit.
    """
    parent = remote.state
    if parent is None:
        if find_repo(hub, remote.repo_id, STATE_BRANCH):
            raise _moved_on(remote.repo_id, STATE_BRANCH)
        _make_branch(hub, remote.repo_id, STATE_BRANCH, MAIN)
        parent = list_repo(hub, remote.repo_id, STATE_BRANCH)
        if parent.has_state:
            raise _moved_on(remote.repo_id, STATE_BRANCH)
    return _commit(hub, remote.repo_id, STATE_BRANCH, files, message, parent)


def read_card(hub: Hub, remote: Remote) -> str | None:
    """The published card, or None."""
    if not remote.model or CARD_FILE not in remote.model.files:
        return None
    with TemporaryDirectory() as folder:
        card = download(hub, remote.repo_id, remote.model.commit, remote.model.files[CARD_FILE], Path(folder))
        return card.read_text(encoding="utf-8")


def require_valid_card(hub: Hub, repo_id: str, card: str) -> None:
    """Raises InvalidCardError if the Hub does not accept the card, HubError if it can't be asked."""
    with_retries(hub, repo_id, "checking the card", partial(validate_card, hub.api, card, hub.kind))


def _commit(
    hub: Hub,
    repo_id: str,
    branch: str,
    files: Mapping[str, Content],
    message: str,
    parent: Listing,
    removed: Sequence[str] = (),
) -> CommitResult:
    changed = changes(files, parent)
    if not changed and not removed:
        return CommitResult(parent.commit, False, ())
    refuse_secrets({change.path: change.content for change in changed})
    for change in changed:
        if change.path == CARD_FILE and isinstance(change.content, bytes):
            _refuse_invalid_card(hub, repo_id, change.content.decode())
    additions = [huggingface_hub.CommitOperationAdd(change.path, change.content) for change in changed]
    operations: list[huggingface_hub.CommitOperationAdd | huggingface_hub.CommitOperationDelete] = [
        *additions,
        *(huggingface_hub.CommitOperationDelete(name) for name in removed),
    ]
    with hub_errors(hub, repo_id, f"uploading to {branch}"):  # the client retries these requests itself
        hub.api.preupload_lfs_files(repo_id, additions, revision=branch, repo_type=hub.kind)

    def commit() -> str:
        with warnings.catch_warnings():
            # the documents of a model may be published in its repo
            warnings.filterwarnings("ignore", "It seems that you are about to commit a data file")
            made = hub.api.create_commit(
                repo_id,
                operations,
                commit_message=message,
                revision=branch,
                repo_type=hub.kind,
                parent_commit=parent.commit,
            )
        return made.oid

    def commit_that_landed() -> str | None:
        """The head, if it has our files and our parent. A second attempt would fail because of our own commit."""
        history = [made.commit_id for made in _history(hub, repo_id, branch)[:2]]
        if history[1:] != [parent.commit]:
            return None
        head = list_repo(hub, repo_id, history[0])
        return None if changes(files, head) or head.files.keys() & set(removed) else history[0]

    made = with_retries(hub, repo_id, f"publishing to {branch}", commit, commit_that_landed)
    if damaged := [change.path for change in changes(files, list_repo(hub, repo_id, made))]:
        raise HubError(
            f"{repo_id} at commit {made} differs from what was uploaded: {', '.join(damaged)}. The upload was corrupted.",
            "Run again to publish these files again. Do not use that commit.",
        )
    return CommitResult(made, True, changed)


def _refuse_invalid_card(hub: Hub, repo_id: str, card: str) -> None:
    """Raises HubError. `publishing/card.py` has checked it before any work, but with the figures of a sample."""
    try:
        require_valid_card(hub, repo_id, card)
    except InvalidCardError as error:
        raise HubError(
            f"{hub.repo_path(repo_id)} on {hub.endpoint} does not accept its card: {error}. Nothing was published.",
            "Fix the front matter of the card: the one on the Hub, or the template that `card` names.",
        ) from error


def _history(hub: Hub, repo_id: str, branch: str) -> "list[GitCommitInfo]":
    look = partial(hub.api.list_repo_commits, repo_id, revision=branch, repo_type=hub.kind)
    return with_retries(hub, repo_id, f"listing the commits of {branch}", look)


def _make_branch(hub: Hub, repo_id: str, branch: str, start: str | None) -> None:
    make = partial(hub.api.create_branch, repo_id, branch=branch, revision=start, exist_ok=True)
    with_retries(hub, repo_id, f"creating the branch {branch}", make)


def _moved_on(repo_id: str, branch: str) -> MovedOnError:
    return MovedOnError(
        f"Branch {branch} of {repo_id} has a new commit, which was not overwritten. Nothing was published.",
        "Pull, then run again.",
    )


def describe_changes(
    hub: Hub, repo_id: str, planned: Sequence[Change], published: Listing | None, removed: Sequence[str] = ()
) -> Iterator[str]:
    """A line for each file that would be uploaded or deleted, followed by the diffs."""
    old_files = published.files if published else {}
    for change in planned:
        before = f", {old_files[change.path].size:,} now" if change.path in old_files else ""
        yield f"  {'new' if change.is_new else 'changed'}  {change.size:>12,} bytes  {change.path}{before}"
    for name in removed:
        yield f"  removed {old_files[name].size:>12,} bytes  {name}"
    for change in planned:
        if published and change.path in old_files and is_text(change.path):
            yield from _diff(hub, repo_id, published.commit, old_files[change.path], change)


def _diff(hub: Hub, repo_id: str, commit: str, file: RemoteFile, change: Change) -> Iterator[str]:
    if max(change.size, file.size) > _MAX_TEXT_SIZE:
        return
    with TemporaryDirectory() as folder:
        old = _lines(download(hub, repo_id, commit, file, Path(folder)).read_bytes())
    new = _lines(change.content if isinstance(change.content, bytes) else change.content.read_bytes())
    lines = list(difflib.unified_diff(old, new, f"{change.path} at {commit[:12]}", change.path, lineterm="", n=1))
    yield from lines[:_MAX_DIFF_LINES]
    if len(lines) > _MAX_DIFF_LINES:
        yield f"({len(lines) - _MAX_DIFF_LINES:,} more lines of the diff of {change.path} are not shown)"


def _lines(content: bytes) -> list[str]:
    return content.decode("utf-8", "replace").splitlines()
