"""A model folder to the Hub: an explicit list of files, one commit a branch, on top of the commit that was looked at."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import huggingface_hub

from ..checkpoint.model_folder import ModelFolder
from ..errors import HubError, MovedOnError
from .endpoint import Hub
from .fetch import download
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
    find_repo,
    list_repo,
    same_content,
    size_of,
)
from .retry import hub_errors, with_retries
from .upload_checks import refuse_secrets, stage

if TYPE_CHECKING:
    from huggingface_hub.hf_api import GitCommitInfo


@dataclass(frozen=True)
class Change:
    """A file that the Hub does not have as it is here. `size` in bytes."""

    path: str
    content: Content
    size: int
    is_new: bool


@dataclass(frozen=True)
class Published:
    """`commit` is the branch's head afterwards; `deployed` is False where nothing had changed and nothing was sent.

    Of a pull request `commit` is its head, and `deployed` is False: nothing is on the branch yet.
    """

    commit: str
    deployed: bool
    changes: tuple[Change, ...]
    pr_url: str = ""


def model_files(folder: ModelFolder, card: str | None) -> dict[str, Content]:
    """What the main branch gets: the model and its card. Raises CheckpointError for a file that must not be published."""
    return _files(folder, MODEL_FILES) | ({CARD_FILE: card.encode()} if card else {})


def state_files(folder: ModelFolder) -> dict[str, Content]:
    """What the branch of the training state gets: the newest checkpoint, whole. Raises CheckpointError likewise."""
    return _files(folder, (*MODEL_FILES, *STATE_FILES, *SPARE_STATE_FILES))


def _files(folder: ModelFolder, names: tuple[str, ...]) -> dict[str, Content]:
    """Those of `names` that are there, and our own code where transformers runs some: never a file that lay in the folder."""
    return stage(folder, names) | folder.architecture.remote_code()


def changes(files: Mapping[str, Content], published: Listing | None) -> tuple[Change, ...]:
    """The files that differ from what is published."""
    there = published.files if published else {}
    return tuple(
        Change(name, content, size_of(content), name not in there)
        for name, content in files.items()
        if name not in there or not same_content(content, there[name])
    )


def ensure_repo(hub: Hub, remote: Remote, private: bool) -> Remote:
    """Create the repo, or the branch that is to be published to, where it is missing."""
    if remote.model:
        return remote
    name = remote.repo_id
    create = partial(hub.api.create_repo, name, private=private, repo_type=hub.kind, exist_ok=True)
    with_retries(hub, name, "creating the repo", create)
    if remote.revision != MAIN:
        _make_branch(hub, name, remote.revision, None)
    made = list_repo(hub, remote.repo_id, remote.revision)
    if made.has_model and remote.revision == MAIN:
        raise _moved_on(remote.repo_id, MAIN)
    return replace(remote, model=made)


def publish_model(
    hub: Hub, remote: Remote, files: Mapping[str, Content], message: str, removed: Sequence[str] = ()
) -> Published:
    """Put `files` on the revision that was looked up, and take `removed` away; nothing where all of it is so already.

    Raises HubError where the branch has moved on since: nothing is overwritten.
    """
    assert remote.model
    return _commit(hub, remote.repo_id, remote.revision, files, message, remote.model, removed)


def publish_state(hub: Hub, remote: Remote, newest: ModelFolder, message: str) -> Published:
    """Put the newest checkpoint with its training state on its own branch, which is made where it is missing.

    Publish it before the model: whoever loses a race is refused here, and a job that is killed in between leaves training
    further on than the model, which the next one picks up. Raises HubError where the branch has moved on.
    """
    parent = remote.state
    if parent is None:
        if find_repo(hub, remote.repo_id, STATE_BRANCH):
            raise _moved_on(remote.repo_id, STATE_BRANCH)
        _make_branch(hub, remote.repo_id, STATE_BRANCH, MAIN)
        parent = list_repo(hub, remote.repo_id, STATE_BRANCH)
        if parent.has_state:
            raise _moved_on(remote.repo_id, STATE_BRANCH)
    return _commit(hub, remote.repo_id, STATE_BRANCH, state_files(newest), message, parent)


def read_card(hub: Hub, remote: Remote) -> str | None:
    """The card on the Hub, or None."""
    if not remote.model or CARD_FILE not in remote.model.files:
        return None
    with TemporaryDirectory() as folder:
        card = download(hub, remote.repo_id, remote.model.commit, remote.model.files[CARD_FILE], Path(folder))
        return card.read_text(encoding="utf-8")


def _commit(
    hub: Hub,
    repo_id: str,
    branch: str,
    files: Mapping[str, Content],
    message: str,
    parent: Listing,
    removed: Sequence[str] = (),
) -> Published:
    changed = changes(files, parent)
    if not changed and not removed:
        return Published(parent.commit, False, ())
    refuse_secrets({change.path: change.content for change in changed})
    additions = [huggingface_hub.CommitOperationAdd(change.path, change.content) for change in changed]
    operations: list[huggingface_hub.CommitOperationAdd | huggingface_hub.CommitOperationDelete] = [
        *additions,
        *(huggingface_hub.CommitOperationDelete(name) for name in removed),
    ]
    with hub_errors(hub, repo_id, f"uploading to {branch}"):  # the client tries these requests again itself
        hub.api.preupload_lfs_files(repo_id, additions, revision=branch, repo_type=hub.kind)

    def commit() -> str:
        with warnings.catch_warnings():
            # documents beside a model are meant to be there
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
        """A head with our files, straight on top of what we looked at. A blind repeat would be refused by our own commit."""
        history = [made.commit_id for made in _history(hub, repo_id, branch)[:2]]
        if history[1:] != [parent.commit]:
            return None
        head = list_repo(hub, repo_id, history[0])
        return None if changes(files, head) or head.files.keys() & set(removed) else history[0]

    made = with_retries(hub, repo_id, f"publishing to {branch}", commit, commit_that_landed)
    if damaged := [change.path for change in changes(files, list_repo(hub, repo_id, made))]:
        raise HubError(
            f"{repo_id} has other content than was sent at commit {made}: {', '.join(damaged)}. It was damaged on the way.",
            "Run it again: it publishes these files anew. Nobody should use that commit.",
        )
    return Published(made, True, changed)


def _history(hub: Hub, repo_id: str, branch: str) -> "list[GitCommitInfo]":
    look = partial(hub.api.list_repo_commits, repo_id, revision=branch, repo_type=hub.kind)
    return with_retries(hub, repo_id, f"looking at {branch}", look)


def _make_branch(hub: Hub, repo_id: str, branch: str, start: str | None) -> None:
    make = partial(hub.api.create_branch, repo_id, branch=branch, revision=start, exist_ok=True)
    with_retries(hub, repo_id, f"making the branch {branch}", make)


def _moved_on(repo_id: str, branch: str) -> MovedOnError:
    return MovedOnError(
        f"Somebody published to {branch} of {repo_id} in the meantime. Nothing was published, nothing overwritten.",
        "Pull, and run it again.",
    )
