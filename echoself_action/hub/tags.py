"""Tags of a repo on the Hub: those of releases, which never move, and `best`, which does."""

from datetime import UTC, datetime

from ..errors import HubError
from .endpoint import Hub
from .retry import with_retries

BEST = "best"  # the only tag that moves: to the model that a comparison found to be the best
TIMESTAMP, _PREFIX = "timestamp", "hf-deploy-"


def set_tag(hub: Hub, repo_id: str, tag: str, commit: str) -> None:
    """Tag a commit. Raises HubError if the tag exists on another commit."""
    tags = _tags(hub, repo_id)
    if tags.get(tag) == commit:
        return
    if tag in tags:
        raise HubError(
            f"Tag {tag} of {repo_id} exists on commit {tags[tag]}, and tags are not moved. {commit} was not tagged.",
            "Use another tag.",
        )
    _create(hub, repo_id, tag, commit)


def move_tag(hub: Hub, repo_id: str, tag: str, commit: str) -> str | None:
    """Move a tag to a commit, or create it. Returns the commit that it was on before.

    The Hub can't move a tag, so it is deleted and created: if the second step fails with HubError, the tag does not exist.
    """
    before = _tags(hub, repo_id).get(tag)
    if before == commit:
        return before
    if before:

        def is_deleted() -> bool | None:
            return tag not in _tags(hub, repo_id) or None

        with_retries(hub, repo_id, f"deleting tag {tag}", lambda: hub.api.delete_tag(repo_id, tag=tag) or True, is_deleted)
    _create(hub, repo_id, tag, commit)
    return before


def timestamp_tag(hub: Hub, repo_id: str, commit: str) -> str:
    """The tag for `timestamp`: the one that this commit has already, else one for the current second."""
    existing = sorted(name for name, on in _tags(hub, repo_id).items() if on == commit and name.startswith(_PREFIX))
    return existing[0] if existing else f"{_PREFIX}{datetime.now(UTC):%Y%m%d-%H%M%S}"


def _create(hub: Hub, repo_id: str, tag: str, commit: str) -> None:
    def is_set() -> bool | None:
        return _tags(hub, repo_id).get(tag) == commit or None

    with_retries(hub, repo_id, f"setting tag {tag}", lambda: hub.api.create_tag(repo_id, tag=tag, revision=commit), is_set)


def _tags(hub: Hub, repo_id: str) -> dict[str, str]:
    refs = with_retries(hub, repo_id, "looking up the tags", lambda: hub.api.list_repo_refs(repo_id))
    return {ref.name: ref.target_commit for ref in refs.tags}
