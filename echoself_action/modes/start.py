"""Where training starts: at a named checkpoint, at the newest one here or on the Hub, or fresh."""

from pathlib import Path

from ..checkpoint.atomic import set_aside
from ..checkpoint.find import checkpoints, latest
from ..checkpoint.folder import ModelFolder, check_weights
from ..errors import InputError
from ..hub.client import open_hub
from ..hub.fetch import fetch
from ..hub.repo import look_up
from ..inputs import AUTO, Inputs
from ..report.log import note
from ..training.loop import LOG_FILE
from .named import named_checkpoint


def starting_point(inputs: Inputs) -> ModelFolder | None:
    """The checkpoint that is named, the newest in output_dir, or the Hub's; None to start fresh.

    Raises InputError where `resume: must` finds none, CheckpointError where the one to go on from is broken.
    """
    start = _named_or_here(inputs)
    if start is None and inputs.repo_id and inputs.resume != "never":
        with open_hub(inputs.hub, inputs.token, note) as hub:
            remote = look_up(hub, inputs.repo_id, inputs.revision)
            if remote.holds_a_model:
                start = fetch(hub, remote, inputs.output_dir, note).newest
    return confirmed(inputs, start)


def newest_of(inputs: Inputs, fetched: ModelFolder | None) -> ModelFolder | None:
    """The Hub's checkpoint, or a later one of the same run in output_dir, which a job left that could not publish it.

    One that `checkpoint` names is gone on from, unless the Hub's is of its run and further on.
    """
    if inputs.resume == "never":
        return None
    here = _named_or_here(inputs)
    if fetched is None or here is None:
        return confirmed(inputs, fetched or here)
    same_run = here.metadata and fetched.metadata and here.metadata.run_id == fetched.metadata.run_id
    named = inputs.checkpoint not in (None, AUTO)
    return confirmed(inputs, here if (here.step > fetched.step if same_run else named) else fetched)


def confirmed(inputs: Inputs, start: ModelFolder | None) -> ModelFolder | None:
    """Say where training starts, after a look at what `resume` demands and at the weights' checksum."""
    if start is None:
        if inputs.resume == "must":
            places = str(inputs.output_dir) + (f" and {inputs.repo_id}" if inputs.repo_id else "")
            raise InputError(
                f"resume: must, and there is no checkpoint in {places}. Nothing was trained.",
                "Check output_dir and repo_id, or use resume: auto to start fresh where there is nothing.",
            )
        note("starting fresh")
        return None
    check_weights(start)
    note(f"going on from {start.path}, step {start.step}")
    return start


def make_way(output_dir: Path, start: ModelFolder | None) -> None:
    """Set aside the checkpoints in output_dir that the run from `start` does not build on; nothing is deleted."""
    run_id = start.metadata.run_id if start and start.metadata else None
    for folder in checkpoints(output_dir):
        ours = start and (folder.path.samefile(start.path) or (folder.metadata and folder.metadata.run_id == run_id))
        if not (start and ours and folder.step <= start.step):
            note(f"set aside {folder.path}: {set_aside(folder.path)}")
    log = output_dir / LOG_FILE
    if start is None and log.exists():
        set_aside(log)


def _named_or_here(inputs: Inputs) -> ModelFolder | None:
    if inputs.checkpoint:
        return named_checkpoint(inputs)
    return None if inputs.resume == "never" else latest(inputs.output_dir)
