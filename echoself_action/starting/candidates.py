"""The models that are to be compared, found: here or on the Hub, each as a checked model folder."""

import re
from dataclasses import dataclass
from pathlib import Path

from ..checkpoint.model_folder import CONFIG_FILE, ModelFolder, check_weights
from ..checkpoint.select import best
from ..config.inputs import REVISION, Inputs
from ..errors import CheckpointError, InputError
from ..hub.endpoint import Hub
from ..hub.fetch import fetch
from ..hub.repo import MAIN, look_up
from ..hub.repo_id import REPO
from ..report.log import note
from .resolve_checkpoint import local_checkpoint

_ON_THE_HUB = re.compile(f"({REPO})(?:@({REVISION}))?")


@dataclass(frozen=True)
class Candidate:
    """`name` is what the user calls it. `repo_id`, `revision` and `commit` are of one from the Hub, else empty."""

    name: str
    folder: ModelFolder
    repo_id: str = ""
    revision: str = ""
    commit: str = ""

    @property
    def place(self) -> str:
        return f"commit {self.commit}" if self.commit else str(self.folder.path)


def is_here(name: str) -> bool:
    """Whether it is a file or a folder; what is not is a repo. Raises InputError where it can't be one."""
    if Path(name).exists():
        return True
    if not _ON_THE_HUB.fullmatch(name):
        raise InputError(
            f"candidates: there is no file or folder {name!r}, and no repo has such a name. Nothing was compared.",
            "Give a model folder, a `.pt` file, or a Hub repo as owner/name or owner/name@revision.",
        )
    return False


def local_candidate(inputs: Inputs, name: str, scratch: Path) -> Candidate:
    """A model folder, the best of a folder of checkpoints, or a foreign file, which becomes a model folder in `scratch`.

    Raises CheckpointError where it can't be used.
    """
    path = Path(name)
    found = None if (path / CONFIG_FILE).exists() or not path.is_dir() else best(path)
    folder = found or local_checkpoint(inputs, path, scratch)
    check_weights(folder)
    if found:
        note(f"{name}: {folder.path} is the best of its checkpoints")
    return Candidate(name, folder)


def hub_candidate(hub: Hub, name: str, scratch: Path) -> Candidate:
    """What a repo holds, in `scratch`. Raises HubError where it is not there, CheckpointError where it can't be used."""
    named = _ON_THE_HUB.fullmatch(name)
    assert named
    repo_id, revision = named[1], named[2] or MAIN
    remote = look_up(hub, repo_id, revision)
    if remote.model is not None and not (remote.model.has_model or remote.model.has_pickled_model):
        raise CheckpointError(
            f"candidates: {repo_id} on {hub.endpoint} holds no model at {revision}. Nothing was compared.",
            "Give another revision, or publish a model there first.",
        )
    fetched = fetch(hub, remote, scratch, note)
    note(f"{name}: {hub.url(repo_id)} at {fetched.commit}, step {fetched.model.step}")
    return Candidate(name, fetched.model, repo_id, revision, fetched.commit)
