"""A model folder to the Hub: an explicit list of files, one commit a branch, on top of the commit that was looked at."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ..checkpoint.folder import ModelFolder
from ..errors import HubError
from .checksum import Content, same_content, size_of
from .client import Hub, asking
from .repo import CARD_FILE, MAIN, MODEL_FILES, STATE_BRANCH, STATE_FILES, Listing, Remote, find_repo, list_repo


@dataclass(frozen=True)
class Change:
    """A file that the Hub does not have as it is here. `size` in bytes."""

    path: str
    content: Content
    size: int
    is_new: bool


@dataclass(frozen=True)
class Published:
    """`commit` is the branch's head afterwards; `deployed` is False where nothing had changed and nothing was sent."""

    commit: str
    deployed: bool
    changes: tuple[Change, ...]


def model_files(folder: ModelFolder, card: str | None) -> dict[str, Content]:
    """What the main branch gets: the model and its card."""
    files: dict[str, Content] = {name: folder.path / name for name in MODEL_FILES if (folder.path / name).is_file()}
    return files | ({CARD_FILE: card.encode()} if card else {})


def state_files(folder: ModelFolder) -> dict[str, Content]:
    """What the branch of the training state gets: the newest checkpoint, whole."""
    return {name: folder.path / name for name in (*MODEL_FILES, *STATE_FILES) if (folder.path / name).is_file()}


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
    with asking(hub, remote.repo_id, "creating the repo"):
        hub.api.create_repo(remote.repo_id, private=private, exist_ok=True)
        if remote.revision != MAIN:
            hub.api.create_branch(remote.repo_id, branch=remote.revision, exist_ok=True)
    made = list_repo(hub, remote.repo_id, remote.revision)
    if made.has_model and remote.revision == MAIN:
        raise _moved_on(remote.repo_id, MAIN)
    return replace(remote, model=made)


def publish_model(hub: Hub, remote: Remote, files: Mapping[str, Content], message: str) -> Published:
    """Put `files` on the revision that was looked up, or do nothing where they are all there.

    Raises HubError where the branch has moved on since: nothing is overwritten.
    """
    assert remote.model
    return _commit(hub, remote.repo_id, remote.revision, files, message, remote.model)


def publish_state(hub: Hub, remote: Remote, newest: ModelFolder, message: str) -> Published:
    """Put the newest checkpoint with its training state on its own branch, which is made where it is missing.

    Publish it before the model: whoever loses a race is refused here, and a job that is killed in between leaves training
    further on than the model, which the next one picks up. Raises HubError where the branch has moved on.
    """
    parent = remote.state
    if parent is None:
        if find_repo(hub, remote.repo_id, STATE_BRANCH):
            raise _moved_on(remote.repo_id, STATE_BRANCH)
        with asking(hub, remote.repo_id, f"making the branch {STATE_BRANCH}"):
            hub.api.create_branch(remote.repo_id, branch=STATE_BRANCH, revision=MAIN, exist_ok=True)
        parent = list_repo(hub, remote.repo_id, STATE_BRANCH)
        if parent.has_state:
            raise _moved_on(remote.repo_id, STATE_BRANCH)
    return _commit(hub, remote.repo_id, STATE_BRANCH, state_files(newest), message, parent)


def set_tag(hub: Hub, repo_id: str, tag: str, commit: str) -> None:
    """Tag a commit. Raises HubError where the tag is on another commit already: tags don't move."""
    with asking(hub, repo_id, "looking up the tags"):
        tags = {ref.name: ref.target_commit for ref in hub.api.list_repo_refs(repo_id).tags}
    if tags.get(tag) == commit:
        return
    if tag in tags:
        raise HubError(
            f"Tag {tag} of {repo_id} is on commit {tags[tag]} already. The model was published, but not tagged.",
            "Give another tag.",
        )
    with asking(hub, repo_id, f"setting tag {tag}"):
        hub.api.create_tag(repo_id, tag=tag, revision=commit)


def read_card(hub: Hub, remote: Remote) -> str | None:
    """The card on the Hub, or None."""
    if not remote.model or CARD_FILE not in remote.model.files:
        return None
    with asking(hub, remote.repo_id, "reading the model card"):
        path = hub.api.hf_hub_download(remote.repo_id, CARD_FILE, revision=remote.model.commit)
    return Path(path).read_text(encoding="utf-8")


def _commit(hub: Hub, repo_id: str, branch: str, files: Mapping[str, Content], message: str, parent: Listing) -> Published:
    from huggingface_hub import CommitOperationAdd

    changed = changes(files, parent)
    if not changed:
        return Published(parent.commit, False, ())
    operations = [CommitOperationAdd(change.path, change.content) for change in changed]
    with asking(hub, repo_id, f"publishing to {branch}"):
        commit = hub.api.create_commit(
            repo_id, operations, commit_message=message, revision=branch, parent_commit=parent.commit
        )
    return Published(commit.oid, True, changed)


def _moved_on(repo_id: str, branch: str) -> HubError:
    return HubError(
        f"Somebody published to {branch} of {repo_id} in the meantime. Nothing was published, nothing overwritten.",
        "Pull, and run it again.",
    )
