"""A model as a pull request on the Hub: for whoever may not write to the repo, or wants a person to look first."""

from collections.abc import Mapping

import huggingface_hub

from ..errors import HubError, InputError
from .endpoint import Hub
from .publish import Change, Published, changes
from .repo import MODEL_FILES, Content, Remote, list_repo
from .retry import hub_errors, with_retries
from .upload_checks import refuse_secrets


def propose_model(hub: Hub, remote: Remote, files: Mapping[str, Content], title: str, description: str) -> Published:
    """Open a pull request with `files` on top of the commit that was looked up, or find the open one that has them already.

    Raises InputError where there is no repo to open it in, HubError where the Hub refuses.
    """
    if remote.model is None:
        raise InputError(
            f"create_pr: there is no repo {remote.repo_id} on {hub.endpoint} to open a pull request in. Nothing was published.",
            "Check repo_id, or leave create_pr out to create the repo.",
        )
    changed = changes(files, remote.model)
    if not changed:
        return Published(remote.model.commit, False, ())
    if there := _find_open(hub, remote, files, title, changed):
        return there
    refuse_secrets({change.path: change.content for change in changed})
    operations = [huggingface_hub.CommitOperationAdd(change.path, change.content) for change in changed]
    name, parent = remote.repo_id, remote.model.commit
    with hub_errors(hub, name, "uploading for a pull request"):
        hub.api.preupload_lfs_files(name, operations, create_pr=True)

    def open_it() -> Published:
        made = hub.api.create_commit(
            name, operations, commit_message=title, commit_description=description, create_pr=True, parent_commit=parent
        )
        if not made.pr_url:
            raise HubError(f"{hub.endpoint} opened no pull request in {name}. Nothing was published.", "Run it again.")
        return Published(made.oid, False, changed, made.pr_url)

    return with_retries(hub, name, "opening a pull request", open_it, lambda: _find_open(hub, remote, files, title, changed))


def _find_open(
    hub: Hub, remote: Remote, files: Mapping[str, Content], title: str, changed: tuple[Change, ...]
) -> Published | None:
    """An open pull request of this title with these files, whichever run it was that published them."""
    lasting = {name: content for name, content in files.items() if name in MODEL_FILES}  # not when and where it was published
    filters = {"discussion_type": "pull_request", "discussion_status": "open"}

    def find() -> Published | None:
        for discussion in hub.api.get_repo_discussions(remote.repo_id, **filters):  # type: ignore[arg-type]
            if discussion.title == title and discussion.git_reference:
                head = list_repo(hub, remote.repo_id, discussion.git_reference)
                if not changes(lasting, head):
                    return Published(head.commit, False, changed, discussion.url)
        return None

    return with_retries(hub, remote.repo_id, "looking for an open pull request", find)
