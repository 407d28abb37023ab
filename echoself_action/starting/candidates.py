"""Resolves the candidates of a comparison, on this machine or on the Hub, to checked model folders."""

import re
from dataclasses import dataclass
from pathlib import Path

from ..checkpoint.model_folder import CONFIG_FILE, ModelFolder, check_weights
from ..checkpoint.select import best
from ..config.input_types import REVISION
from ..config.inputs import Inputs
from ..errors import CheckpointError, InputError
from ..hub.endpoint import Hub
from ..hub.fetch import fetch
from ..hub.repo import MAIN, Remote, look_up
from ..hub.repo_id import REPO
from ..report.log import note
from .resolve_checkpoint import read_or_import

_ON_THE_HUB = re.compile(f"({REPO})(?:@({REVISION}))?")


@dataclass(frozen=True)
class ResolvedCandidate:
    """A candidate by the `name` that the user gave. `repo_id`, `revision`, `commit` and `url` are empty for a local one."""

    name: str
    folder: ModelFolder
    repo_id: str = ""
    revision: str = ""
    commit: str = ""
    url: str = ""  # its page on the Hub

    @property
    def place(self) -> str:
        return f"commit {self.commit[:7]}" if self.commit else str(self.folder.path)


def is_local(name: str) -> bool:
    """Whether `name` is a path; otherwise it is a Hub repo. Raises InputError if it is not a valid repo id either."""
    if Path(name).exists():
        return True
    if not _ON_THE_HUB.fullmatch(name):
        raise InputError(
            f"candidates: {name!r} is neither an existing path nor a valid repo id. Nothing was compared.",
            "Give a model folder, a `.pt` file, or a Hub repo as owner/name or owner/name@revision.",
        )
    return False


def local_candidate(inputs: Inputs, name: str, scratch: Path) -> ResolvedCandidate:
    """A model folder, the best checkpoint in a folder of checkpoints, or a foreign file, which is imported into `scratch`.

    Raises CheckpointError if it can't be used.
    """
    path = Path(name)
    found = None if (path / CONFIG_FILE).exists() or not path.is_dir() else best(path)
    folder = found or read_or_import(inputs, path, scratch)
    check_weights(folder)
    if found:
        note(f"{name}: {folder.path} is its best checkpoint")
    return ResolvedCandidate(name, folder)


def look_up_candidate(hub: Hub, name: str) -> Remote:
    """The files of a candidate on the Hub. Raises CheckpointError if the repo has no model there, HubError."""
    named = _ON_THE_HUB.fullmatch(name)
    assert named
    repo_id, revision = named[1], named[2] or MAIN
    remote = look_up(hub, repo_id, revision)
    if remote.model is not None and not (remote.model.has_model or remote.model.has_other_model):
        raise CheckpointError(
            f"candidates: {repo_id} on {hub.endpoint} has no model at revision {revision}. Nothing was compared.",
            "Set another revision, or publish a model there first.",
        )
    return remote


def hub_candidate(hub: Hub, name: str, scratch: Path, tokenizer: str | None = None) -> ResolvedCandidate:
    """The model of a repo, fetched into `scratch`. Raises HubError if it does not exist, CheckpointError if unusable."""
    remote = look_up_candidate(hub, name)
    repo_id, revision = remote.repo_id, remote.revision
    fetched = fetch(hub, remote, scratch, note, tokenizer=tokenizer)
    note(f"{name}: {hub.url(repo_id)} at {fetched.commit}, step {fetched.model.step}")
    url = f"{hub.url(repo_id)}/tree/{fetched.commit}"
    return ResolvedCandidate(name, fetched.model, repo_id, revision, fetched.commit, url)
