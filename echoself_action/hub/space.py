"""The static Space of a model's demo: which Space it is, who may read it, and what may be replaced in it."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import ValidationError

from ..errors import InputError
from .client import spaces_of
from .endpoint import Hub
from .fetch import download
from .provenance import Provenance
from .publish import read_card
from .repo import MAIN, PROVENANCE_FILE, Listing, Remote, find_repo
from .retry import with_retries

_ANY = frozenset({".gitattributes"})
_INITIAL_COMMIT = "initial commit"  # the title that the Hub gives it


@dataclass(frozen=True)
class Space:
    """A Space when it was listed; `remote.model` is None if it does not exist.

    `ours` are the files in it that this program wrote, by its last publish there, or that the Hub made for a new Space. `card`
    is the README.md of its author, None if it is the Hub's or there is none.
    """

    hub: Hub
    remote: Remote
    ours: frozenset[str] = frozenset()
    card: str | None = None

    @property
    def url(self) -> str:
        return self.hub.url(self.remote.repo_id)


def look_up_space(hub: Hub, repo_id: str) -> Space:
    """The Space `repo_id`, which need not exist.

    Raises InputError if it has content that is not from this program, or if there is no keyless token for it; HubError.
    """
    spaces = spaces_of(hub, repo_id)
    remote = Remote(repo_id, MAIN, find_repo(spaces, repo_id, MAIN), None)
    if remote.model is None:
        return Space(spaces, remote)
    if PROVENANCE_FILE in remote.model.files:
        provenance = _provenance(spaces, repo_id, remote.model)
        if provenance:
            ours = frozenset({*provenance.files, PROVENANCE_FILE}) & remote.model.files.keys()
            return Space(spaces, remote, ours, read_card(spaces, remote))
    elif _is_new(spaces, repo_id):
        return Space(spaces, remote, frozenset(remote.model.files) - _ANY)
    raise InputError(
        f"demo: the Space {spaces.url(repo_id)} exists, and echoself-action did not make it: its page would be replaced. "
        "Nothing was done.",
        "Set demo_repo_id to another name, or delete the Space.",
    )


def is_restricted(hub: Hub, repo_id: str) -> bool:
    """Whether not everybody may download the model. Raises HubError."""
    look = partial(hub.api.model_info, repo_id, expand=["private", "gated"])
    info = with_retries(hub, repo_id, "looking up who may read it", look)
    return bool(info.private or info.gated)


def require_restricted(space: Space, model_id: str) -> None:
    """Raises InputError if the Space is public: the page holds the weights of the model, which is not. Raises HubError."""
    repo_id = space.remote.repo_id
    look = partial(space.hub.api.space_info, repo_id, expand=["private"])
    if not with_retries(space.hub, repo_id, "looking up who may read it", look).private:
        raise InputError(
            f"demo: the Space {space.url} is public, and {model_id} is private or gated: the page would give its weights to "
            "everybody. The page was not published.",
            "Make the Space private in its settings, or remove demo.",
        )


def _provenance(hub: Hub, repo_id: str, listing: Listing) -> Provenance | None:
    with TemporaryDirectory() as folder:
        text = download(hub, repo_id, listing.commit, listing.files[PROVENANCE_FILE], Path(folder)).read_bytes()
    try:
        return Provenance.model_validate_json(text)
    except ValidationError:
        return None


def _is_new(hub: Hub, repo_id: str) -> bool:
    """Whether there is no commit but the Hub's own, as after a job that was killed before its first.

    A copy of another Space and a squashed history have a single commit too, with another title.
    """
    look = partial(hub.api.list_repo_commits, repo_id, repo_type=hub.kind)
    return [commit.title for commit in with_retries(hub, repo_id, "listing its commits", look)] == [_INITIAL_COMMIT]
