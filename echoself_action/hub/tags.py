"""Tags of a repo on the Hub: names for a commit that stay, and one that moves."""

from datetime import UTC, datetime

from ..errors import HubError
from .endpoint import Hub
from .retry import with_retries

BEST = "best"  # the only tag that moves: to whichever model a comparison finds to be better
TIMESTAMP, _PREFIX = "timestamp", "hf-deploy-"


def set_tag(hub: Hub, repo_id: str, tag: str, commit: str) -> None:
    """Tag a commit. Raises HubError where the tag is on another commit already: tags don't move."""
    tags = _tags(hub, repo_id)
    if tags.get(tag) == commit:
        return
    if tag in tags:
        raise HubError(
            f"Tag {tag} of {repo_id} is on commit {tags[tag]} already, and tags don't move. {commit} was not tagged.",
            "Give another tag.",
        )
    _create(hub, repo_id, tag, commit)


def move_tag(hub: Hub, repo_id: str, tag: str, commit: str) -> str | None:
    """Put a tag on a commit, wherever it was before; returns the commit that it was on.

    The Hub knows no move: for a moment there is no such tag, and there is none where setting it anew fails with HubError.
    """
    before = _tags(hub, repo_id).get(tag)
    if before == commit:
        return before
    if before:

        def gone() -> bool | None:
            return tag not in _tags(hub, repo_id) or None

        with_retries(hub, repo_id, f"taking tag {tag} away", lambda: hub.api.delete_tag(repo_id, tag=tag) or True, gone)
    _create(hub, repo_id, tag, commit)
    return before


def timestamp_tag(hub: Hub, repo_id: str, commit: str) -> str:
    """The tag that `timestamp` stands for: the one that this commit has already, else one of the present second."""
    there = sorted(name for name, on in _tags(hub, repo_id).items() if on == commit and name.startswith(_PREFIX))
    return there[0] if there else f"{_PREFIX}{datetime.now(UTC):%Y%m%d-%H%M%S}"


def _create(hub: Hub, repo_id: str, tag: str, commit: str) -> None:
    def set_already() -> bool | None:
        return _tags(hub, repo_id).get(tag) == commit or None

    with_retries(hub, repo_id, f"setting tag {tag}", lambda: hub.api.create_tag(repo_id, tag=tag, revision=commit), set_already)


def _tags(hub: Hub, repo_id: str) -> dict[str, str]:
    refs = with_retries(hub, repo_id, "looking up the tags", lambda: hub.api.list_repo_refs(repo_id))
    return {ref.name: ref.target_commit for ref in refs.tags}
