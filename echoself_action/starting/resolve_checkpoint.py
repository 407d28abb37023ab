"""Resolves the input `checkpoint` to a model folder: a path, a pattern, a foreign file that is imported, or `auto`.

`auto` searches one place after the other, and logs what it found and why it chose one.
"""

import os
import shutil
import tempfile
from glob import glob
from pathlib import Path

from ..checkpoint.atomic import TEMPORARY_PREFIX
from ..checkpoint.copy_in import copy_checkpoint
from ..checkpoint.model_folder import (
    CONFIG_FILE,
    INDEX_SUFFIX,
    WEIGHTS_FILE,
    WEIGHTS_FILES,
    ModelFolder,
    check_weights,
    read_model_folder,
)
from ..checkpoint.select import foreign_checkpoints, foreign_text, latest
from ..config.inputs import AUTO, Inputs
from ..errors import CheckpointError
from ..formats.checkpoint_folder import checkpoint_in
from ..formats.find_checkpoints import FoundCheckpoint, find_checkpoints
from ..formats.import_checkpoint import import_checkpoint, import_model, read_checkpoint_file
from ..formats.import_folder import import_folder, is_own
from ..formats.imported_model import Given, ImportedModel
from ..formats.transformers_config import read_pretrained_config
from ..github.artifacts import UnsafeZipError, download, extract, list_artifacts
from ..github.event import NoTrustedRunError, WorkflowRun, triggering_run
from ..hub.client import open_hub
from ..hub.fetch import fetch
from ..hub.repo import look_up
from ..report.github_actions import mask
from ..report.log import note, part, warn
from ..workspace import create_output_dir

LARGEST_ARTIFACTS = 10 << 30  # bytes of all artifacts of a run, compressed or not: a hosted runner's disk holds twice that

_PARTS = (CONFIG_FILE, WEIGHTS_FILE, *(name for name in WEIGHTS_FILES if name.endswith(INDEX_SUFFIX)))


def resolve_checkpoint(inputs: Inputs) -> ModelFolder:
    """Raises CheckpointError if `checkpoint` matches several files or is not a usable checkpoint."""
    assert inputs.checkpoint
    if inputs.checkpoint == AUTO:
        return _search(inputs)
    return read_or_import(inputs, _single_path(inputs.checkpoint), inputs.output_dir)


def require_checkpoint(inputs: Inputs) -> Path | None:
    """Raises CheckpointError if `checkpoint` is a path of which the configuration alone shows that it can't be used.

    No weights are read, so it takes no time before a request that may end the run. Returns the path; None for `auto`.
    """
    assert inputs.checkpoint
    if inputs.checkpoint == AUTO:
        return None
    path = _single_path(inputs.checkpoint)
    if not path.exists() or (path.is_dir() and is_own(path)):
        read_model_folder(path)
    elif path.is_dir() and not checkpoint_in(path):
        read_pretrained_config(path)
    return path


def read_or_import(inputs: Inputs, path: Path, output_dir: Path) -> ModelFolder:
    """The model folder at `path`; a foreign file there is imported into `output_dir`. Raises CheckpointError."""
    if path.is_file() and path.name in _PARTS and (path.parent / CONFIG_FILE).is_file():
        note(f"{path} is part of a model folder, which is used: {path.parent}")
        path = path.parent
    if not path.exists() or (path.is_dir() and is_own(path)):
        return read_model_folder(path)
    with part("Importing"):
        if path.is_dir() and (file := checkpoint_in(path)):
            note(f"{path} holds the checkpoint {file.name}")
            path = file
        if path.is_dir():
            return import_folder(path, output_dir, inputs.tokenizer, note)
        return import_checkpoint(path, output_dir, inputs.tokenizer, note, Given(inputs.n_head, inputs.activation))


def _single_path(pattern: str) -> Path:
    if Path(pattern).exists():
        return Path(pattern)
    found = sorted(glob(pattern, recursive=True))  # noqa: PTH207  # Path.glob takes no absolute pattern
    if len(found) > 1:
        shown = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
        raise CheckpointError(
            f"checkpoint: {pattern} matches {len(found)} paths: {shown}. None was used.", "Give the path of one of them."
        )
    return Path(found[0] if found else pattern)


def _search(inputs: Inputs) -> ModelFolder:
    """The newest checkpoint in output_dir; else the one with the lowest recorded held-out loss below the working directory,
    or in an artifact of the triggering run; else the Hub's. A `.pt` file is imported into output_dir.

    Raises CheckpointError if none is found, HubError if GitHub or the Hub refuses a request.
    """
    reasons = []
    with part("Searching for a checkpoint"):
        for place in (_in_output_dir, _below_here, _in_artifacts, _on_the_hub):
            found = place(inputs)
            if isinstance(found, ModelFolder):
                return found
            note(found)
            reasons.append(found)
    raise CheckpointError(
        f"checkpoint: auto found no usable checkpoint: {'; '.join(reasons)}. Nothing was done.",
        "Train first, download the artifact with the checkpoint into the workspace, set checkpoint to a path, or set "
        "repo_id to a repo with a model.",
    )


def _in_output_dir(inputs: Inputs) -> ModelFolder | str:
    found = latest(inputs.output_dir)
    if found is None:
        foreign = foreign_checkpoints(inputs.output_dir)
        return f"{inputs.output_dir}: no complete checkpoint{f'; {foreign_text(foreign)}' if foreign else ''}"
    note(f"chosen: {found.path}, step {found.step}, because it is the newest complete checkpoint in {inputs.output_dir}")
    return found


def _below_here(inputs: Inputs) -> ModelFolder | str:
    return _best_below(Path(), inputs) or "the working directory: no usable checkpoint"


def _in_artifacts(inputs: Inputs) -> ModelFolder | str:
    """The artifacts of the triggering run are extracted into a temporary folder; the chosen checkpoint is copied from it."""
    try:
        mask(os.environ.get("GITHUB_TOKEN"))
        run = triggering_run(os.environ)
    except NoTrustedRunError as reason:
        return f"artifacts: {reason}"
    create_output_dir(inputs.output_dir)
    with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=inputs.output_dir) as folder:
        _fetch_artifacts(run, Path(folder))
        found = _best_below(Path(folder), inputs)
        return copy_checkpoint(found, inputs.output_dir) if found else f"artifacts of {run.title}: no usable checkpoint"


def _on_the_hub(inputs: Inputs) -> ModelFolder | str:
    if inputs.mode == "deploy":
        return "the Hub: not searched, because deploy publishes there"
    if not inputs.repo_id:
        return "the Hub: not searched, because repo_id is not set"
    with open_hub(inputs.hub, inputs.token, note) as hub:
        remote = look_up(hub, inputs.repo_id, inputs.revision)
        if not remote.holds_a_model:
            return f"the Hub: no model in {inputs.repo_id} at {inputs.revision}"
        fetched = fetch(hub, remote, inputs.output_dir, note, tokenizer=inputs.tokenizer)
        note(f"chosen: {inputs.repo_id} on {hub.endpoint} at {fetched.commit}, because no other place has a usable checkpoint")
    return fetched.newest if inputs.mode == "train" else fetched.model


def _fetch_artifacts(run: WorkflowRun, folder: Path) -> None:
    room = min(LARGEST_ARTIFACTS, shutil.disk_usage(folder).free // 2)
    for artifact in list_artifacts(run):
        title = f"artifact {artifact.name!r} of {run.title}"
        archive, place = folder / f"{artifact.id}.zip", folder / str(artifact.id)
        if artifact.expired or not download(run, artifact, archive, room):
            note(f"  {title} has expired")
            continue
        try:
            room -= extract(archive, place, room)
            note(f"  {title}: extracted to {place}")
        except UnsafeZipError as reason:
            note(f"  {title} {reason}. It was not extracted.")
        archive.unlink()


def _best_below(root: Path, inputs: Inputs) -> ModelFolder | None:
    """The best usable checkpoint below `root`, as a model folder; a foreign file is imported into output_dir."""
    found = find_checkpoints(root, skip=inputs.output_dir)
    for candidate in found.candidates:
        note(f"  {candidate}")
    if found.cut_short:
        warn(found.cut_short)
    for candidate in found.candidates:
        usable = None if candidate.refused else _read(candidate, inputs)
        if usable is None:
            continue
        note(f"chosen: {candidate.path}, because {_reason(candidate)}, of {len(found.candidates)} found")
        if isinstance(usable, ModelFolder):
            return usable
        return import_model(usable, inputs.output_dir, inputs.tokenizer, note)
    return None


def _read(candidate: FoundCheckpoint, inputs: Inputs) -> ModelFolder | ImportedModel | None:
    """The checkpoint, with its weights checked; None if they can't be used. The search has only read its metadata."""
    try:
        if candidate.path.is_dir():
            folder = read_model_folder(candidate.path)
            check_weights(folder)
            return folder
        return read_checkpoint_file(candidate.path, note, Given(inputs.n_head, inputs.activation))
    except CheckpointError as error:
        note(f"  skipped: {error.message}")
        return None


def _reason(candidate: FoundCheckpoint) -> str:
    if candidate.val_loss is None:
        return "no usable checkpoint records a held-out loss, and it has the most steps"
    return f"it has the lowest recorded held-out loss, {candidate.val_loss:.4f}"
