"""Where training starts: at a named checkpoint, at the newest one here or on the Hub, or fresh."""

from pathlib import Path

from ..checkpoint.atomic import set_aside
from ..checkpoint.model_folder import ModelFolder, check_weights
from ..checkpoint.select import branched_from, broken, checkpoints, latest, line_of, resumable
from ..config.inputs import AUTO, Inputs
from ..errors import CheckpointError, InputError
from ..hub.client import open_hub
from ..hub.fetch import fetch
from ..hub.repo import look_up
from ..report.log import note, warn
from ..training.result import LOG_FILE
from ..training.training_state import check_state
from .resolve_checkpoint import named_checkpoint


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
    """The Hub's checkpoint, or one of the same run in output_dir: further on, which a job left that could not publish it, or
    the one that the Hub's rate fell from, where the Hub keeps no training state.

    One that `checkpoint` names is gone on from, unless the Hub's is of its run and further on.
    """
    if inputs.resume == "never":
        return None
    here = _named_or_here(inputs)
    if fetched is None or here is None:
        return confirmed(inputs, fetched or here)
    same_run = here.metadata and fetched.metadata and here.metadata.run_id == fetched.metadata.run_id
    named = inputs.checkpoint not in (None, AUTO)
    further = here.step > fetched.step or here.step == branched_from(fetched)
    return confirmed(inputs, here if (further if same_run else named) else fetched)


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
    """Set aside the checkpoints in output_dir that the run from `start` does not build on, or that are damaged: nothing is
    deleted, and none of them can be taken for the best."""
    run_id = start.metadata.run_id if start and start.metadata else None
    for folder in checkpoints(output_dir):
        ours = start and (folder.path.samefile(start.path) or (folder.metadata and folder.metadata.run_id == run_id))
        branched = branched_from(folder)
        if not (start and ours and (folder.step if branched is None else branched) <= start.step and _is_sound(folder)):
            note(f"set aside {folder.path}: {set_aside(folder.path)}")
    log = output_dir / LOG_FILE
    if start is None and log.exists():
        set_aside(log)


def _named_or_here(inputs: Inputs) -> ModelFolder | None:
    if inputs.checkpoint == AUTO and (newest := _newest_sound(inputs.output_dir, inputs.size("max_iters"))):
        return newest
    if inputs.checkpoint:
        named = named_checkpoint(inputs)
        line = line_of(named)
        if line.step != named.step:
            note(_left_out(named, line))
        return line
    return None if inputs.resume == "never" else _newest_sound(inputs.output_dir, inputs.size("max_iters"))


def _left_out(branch: ModelFolder, line: ModelFolder) -> str:
    return (
        f"from step {line.step} to {branch.step} the learning rate fell to nothing, for a model to publish; training goes on "
        f"from before that: {line.path}"
    )


def _is_sound(folder: ModelFolder) -> bool:
    try:
        check_weights(folder)
    except CheckpointError:
        return False
    return True


def _newest_sound(output_dir: Path, max_iters: int) -> ModelFolder | None:
    """The first choice of those that are whole, by their checksums; None where there is no checkpoint.

    Raises CheckpointError where there are some, and none is whole.
    """
    damaged = broken(output_dir)
    for folder in resumable(output_dir, max_iters):
        try:
            check_weights(folder)
            check_state(folder)
        except CheckpointError as error:
            damaged.append(error)
            continue
        newest = latest(output_dir)
        if newest and branched_from(newest) == folder.step:
            note(_left_out(newest, folder))
        for one in damaged:
            warn(f"{one.message} {folder.path} is used instead, of step {folder.step}.")
        return folder
    if damaged:
        raise CheckpointError(
            f"No checkpoint in {output_dir} is whole: {' '.join(error.message for error in damaged)} Nothing was trained.",
            "Pull the model again; or move them away, or use resume: never with confirm_fresh_start: true, to start over.",
        )
    return None
