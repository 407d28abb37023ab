"""Opens a pull request with a model on the Hub: without write access to the repo, or for a review before the merge."""

from collections.abc import Mapping, Sequence
from functools import partial

import huggingface_hub

from ..errors import HubError, InputError
from .endpoint import Hub
from .publish import Change, CommitResult, changes
from .repo import MODEL_FILES, Content, Remote, list_repo
from .retry import hub_errors, with_retries
from .upload_checks import refuse_secrets


def open_pull_request(
    hub: Hub, remote: Remote, files: Mapping[str, Content], title: str, description: str, removed: Sequence[str] = ()
) -> CommitResult:
    """Open a pull request with `files` and without `removed`, on top of the commit in `remote`, or find the open one that has
    them already.

    Raises InputError if the repo does not exist, HubError if the Hub refuses.
    """
    if remote.model is None:
        raise InputError(
            f"create_pr: repo {remote.repo_id} does not exist on {hub.endpoint}, so no pull request can be opened. Nothing was "
            "published.",
            "Check repo_id, or publish without create_pr to create the repo.",
        )
    changed = changes(files, remote.model)
    if not changed and not removed:
        return CommitResult(remote.model.commit, False, ())
    find = partial(_find_open, hub, remote, files, title, changed, removed)
    if existing := find():
        return existing
    refuse_secrets({change.path: change.content for change in changed})
    additions = [huggingface_hub.CommitOperationAdd(change.path, change.content) for change in changed]
    operations: list[huggingface_hub.CommitOperationAdd | huggingface_hub.CommitOperationDelete] = [
        *additions,
        *(huggingface_hub.CommitOperationDelete(path) for path in removed),
    ]
    name, parent = remote.repo_id, remote.model.commit
    with hub_errors(hub, name, "uploading for a pull request"):
        hub.api.preupload_lfs_files(name, additions, create_pr=True)

    def create() -> CommitResult:
        made = hub.api.create_commit(
            name, operations, commit_message=title, commit_description=description, create_pr=True, parent_commit=parent
        )
        if not made.pr_url:
            raise HubError(f"{hub.endpoint} did not open a pull request in {name}. Nothing was published.", "Run again.")
        return CommitResult(made.oid, False, changed, made.pr_url)

    return with_retries(hub, name, "opening a pull request", create, find)


def _find_open(
    hub: Hub,
    remote: Remote,
    files: Mapping[str, Content],
    title: str,
    changed: tuple[Change, ...],
    removed: Sequence[str],
) -> CommitResult | None:
    """The open pull request with this title and these files, regardless of which run opened it."""
    model = {name: content for name, content in files.items() if name in MODEL_FILES}  # the card and the history differ by run
    filters = {"discussion_type": "pull_request", "discussion_status": "open"}

    def find() -> CommitResult | None:
        for discussion in hub.api.get_repo_discussions(remote.repo_id, **filters):  # type: ignore[arg-type]
            if discussion.title == title and discussion.git_reference:
                head = list_repo(hub, remote.repo_id, discussion.git_reference)
                if not changes(model, head) and head.files.keys().isdisjoint(removed):
                    return CommitResult(head.commit, False, changed, discussion.url)
        return None

    return with_retries(hub, remote.repo_id, "looking for an open pull request", find)
