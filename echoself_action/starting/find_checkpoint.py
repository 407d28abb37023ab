"""The checkpoint that `checkpoint: auto` stands for: looked for in one place after the other, saying what was seen and why."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from ..checkpoint.atomic import TEMPORARY_PREFIX
from ..checkpoint.copy_in import take_in
from ..checkpoint.model_folder import ModelFolder, check_weights, read_model_folder
from ..checkpoint.select import latest
from ..config.inputs import Inputs
from ..errors import CheckpointError
from ..formats.import_checkpoint import import_checkpoint, read_source
from ..formats.scan import FoundCheckpoint, search
from ..github.artifacts import download, list_artifacts
from ..github.event import NothingToAskError, WorkflowRun, triggering_run
from ..github.unzip import UnsafeZipError, unpack
from ..hub.client import open_hub
from ..hub.fetch import fetch
from ..hub.repo import look_up
from ..report.github_actions import mask
from ..report.log import note, part, warn

LARGEST_ARTIFACTS = 10 << 30  # bytes of a run's artifacts together, packed or not: a hosted runner's disk bears it twice


def discover(inputs: Inputs) -> ModelFolder:
    """The newest checkpoint in output_dir; else the one below the current folder, or in an artifact of the triggering run,
    that states the lowest held-out loss; else the Hub's. A `.pt` becomes a model folder in output_dir.

    Raises CheckpointError where there is none, HubError where GitHub or the Hub refuses.
    """
    looked = []
    with part("Looking for a checkpoint"):
        for place in (_in_output_dir, _below_here, _in_artifacts, _on_the_hub):
            found = place(inputs)
            if isinstance(found, ModelFolder):
                return found
            note(found)
            looked.append(found)
    raise CheckpointError(
        f"checkpoint: auto found none that can be used: {'; '.join(looked)}. Nothing was done.",
        "Train first; or download the artifact with the checkpoint into the workspace; or give the path in checkpoint, or "
        "a repo_id that holds a model.",
    )


def _in_output_dir(inputs: Inputs) -> ModelFolder | str:
    found = latest(inputs.output_dir)
    if found is None:
        return f"{inputs.output_dir}: no complete checkpoint"
    note(f"chosen: {found.path}, step {found.step}, because it is the newest complete checkpoint in {inputs.output_dir}")
    return found


def _below_here(inputs: Inputs) -> ModelFolder | str:
    return _best_below(Path(), inputs) or "the current folder: none that can be used"


def _in_artifacts(inputs: Inputs) -> ModelFolder | str:
    """Those of the triggering run, unpacked beside the checkpoints for as long as it takes to take the chosen one in."""
    try:
        mask(os.environ.get("GITHUB_TOKEN"))
        run = triggering_run(os.environ)
    except NothingToAskError as reason:
        return f"artifacts: {reason}"
    inputs.output_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=inputs.output_dir) as folder:
        _fetch_artifacts(run, Path(folder))
        found = _best_below(Path(folder), inputs)
        return take_in(found, inputs.output_dir) if found else f"artifacts of {run.title}: none that can be used"


def _on_the_hub(inputs: Inputs) -> ModelFolder | str:
    if inputs.mode == "deploy":
        return "the Hub: not asked, because deploy publishes there"
    if not inputs.repo_id:
        return "the Hub: not asked, because no repo_id is given"
    with open_hub(inputs.hub, inputs.token, note) as hub:
        remote = look_up(hub, inputs.repo_id, inputs.revision)
        if not remote.holds_a_model:
            return f"the Hub: no model in {inputs.repo_id} at {inputs.revision}"
        fetched = fetch(hub, remote, inputs.output_dir, note)
        note(f"chosen: {inputs.repo_id} on {hub.endpoint} at {fetched.commit}, because nothing was found before it")
    return fetched.newest if inputs.mode == "train" else fetched.model


def _fetch_artifacts(run: WorkflowRun, folder: Path) -> None:
    room = min(LARGEST_ARTIFACTS, shutil.disk_usage(folder).free // 2)
    for artifact in list_artifacts(run):
        named = f"artifact {artifact.name!r} of {run.title}"
        archive, place = folder / f"{artifact.id}.zip", folder / str(artifact.id)
        if artifact.expired or not download(run, artifact, archive, room):
            note(f"  {named} has expired")
            continue
        try:
            room -= unpack(archive, place, room)
            note(f"  {named}, in {place}")
        except UnsafeZipError as reason:
            note(f"  {named} {reason}. It was not unpacked.")
        archive.unlink()


def _best_below(root: Path, inputs: Inputs) -> ModelFolder | None:
    """The first of the checkpoints, best first, that can be used, as a model folder."""
    found = search(root, skip=inputs.output_dir)
    for candidate in found.candidates:
        note(f"  {candidate}")
    if found.cut_short:
        warn(found.cut_short)
    usable = next((one for one in found.candidates if not one.refused and _can_be_used(one)), None)
    if usable is None:
        return None
    note(f"chosen: {usable.path}, because {_reason(usable)}, of {len(found.candidates)} found")
    if usable.path.is_dir():
        return read_model_folder(usable.path)
    return import_checkpoint(usable.path, inputs.output_dir, inputs.tokenizer, note, inputs.n_head)


def _can_be_used(candidate: FoundCheckpoint) -> bool:
    """Whether its content is whole and of a kind that can be converted: it was only told by its outside before."""
    silent: Callable[[str], None] = lambda _: None  # noqa: E731
    try:
        if candidate.path.is_dir():
            check_weights(read_model_folder(candidate.path))
        else:
            read_source(candidate.path, silent)
    except CheckpointError as error:
        note(f"  passed over: {error.message}")
        return False
    return True


def _reason(candidate: FoundCheckpoint) -> str:
    if candidate.val_loss is None:
        return "none that can be used states a held-out loss, and it has the most steps"
    return f"it states the lowest held-out loss, {candidate.val_loss:.4f}"
