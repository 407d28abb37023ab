"""Where training starts: from a given checkpoint, from one in output_dir, from the Hub's, or with a new model.

`checkpoint` always comes first. Without it, `train` takes the newest undamaged checkpoint in output_dir, else the Hub's newest.

`cycle` fetches from the Hub first, and compares the Hub's newest checkpoint with the local one: the newest undamaged one in
output_dir, or the one that `checkpoint: auto` finds. Checkpoints are of the same run if their metadata has the same `run_id`: a
run keeps it over all its continuations, also over those of an imported file.

    local checkpoint               start
    ----------------------------   ---------------------------------------------------------------------
    same run, ahead of the Hub's   local: an earlier job trained it and could not publish it
    same run, not ahead            Hub: it continues the local one
    other run                      Hub

A local checkpoint is also ahead if the Hub's is the end of a decay phase that started from it: the Hub then has no training
state, and training must resume from before the decay.

A checkpoint in a decay phase is replaced by the stable checkpoint that the decay started from, if that still exists.
`resume: never` ignores output_dir and the Hub.
"""

from collections.abc import Callable
from pathlib import Path

from ..checkpoint.atomic import set_aside
from ..checkpoint.metadata import Metadata
from ..checkpoint.model_folder import ModelFolder, check_weights
from ..checkpoint.select import (
    branched_from,
    broken,
    checkpoints,
    foreign_checkpoints,
    foreign_text,
    latest,
    resumable,
    stable_checkpoint_of,
)
from ..config.inputs import AUTO, Inputs
from ..errors import CheckpointError, InputError
from ..hub.client import open_hub
from ..hub.fetch import fetch
from ..hub.repo import look_up
from ..report.log import note, warn
from ..training.optim.optimizers import OPTIMIZERS, OptimizerName
from ..training.result import LOG_FILE
from ..training.training_state import check_state
from .resolve_checkpoint import resolve_checkpoint


def starting_point(inputs: Inputs) -> ModelFolder | None:
    """Where `train` starts; None for a new model.

    Raises InputError if `resume: must` finds no checkpoint, CheckpointError if the one to resume from is damaged.
    """
    start = _local_checkpoint(inputs)
    if start:
        return _checked(inputs, start, _given(inputs) or f"the newest in {inputs.output_dir}")
    if inputs.repo_id and inputs.resume != "never":
        with open_hub(inputs.hub, inputs.token, note) as hub:
            remote = look_up(hub, inputs.repo_id, inputs.revision)
            if remote.holds_a_model:
                start = fetch(hub, remote, inputs.output_dir, note, tokenizer=inputs.tokenizer).newest
    return _checked(inputs, start, f"the newest of {inputs.repo_id}, because there is none in {inputs.output_dir}")


def starting_point_of_cycle(inputs: Inputs, fetch_newest: Callable[[], ModelFolder | None]) -> ModelFolder | None:
    """Where `cycle` starts; None for a new model. `fetch_newest` downloads the Hub's newest checkpoint. Raises as
    starting_point."""
    if inputs.resume == "never":
        note("start: a new model, because resume is never")
        return None
    if _given(inputs):
        return _checked(inputs, _local_checkpoint(inputs), _given(inputs))
    fetched, local = fetch_newest(), _local_checkpoint(inputs)
    if fetched is None or local is None or local.path == fetched.path:
        return _checked(inputs, fetched or local, f"the newest of {inputs.repo_id if fetched else inputs.output_dir}")
    if is_ahead(local.metadata, fetched.metadata):
        return _checked(inputs, local, f"it is ahead of {inputs.repo_id}, at step {fetched.step}")
    same_run = local.metadata and fetched.metadata and local.metadata.run_id == fetched.metadata.run_id
    other = "is not ahead of it" if same_run else "is of another model"
    return _checked(inputs, fetched, f"the newest of {inputs.repo_id}; {local.path}, step {local.step}, {other}")


def is_ahead(local: Metadata | None, fetched: Metadata | None) -> bool:
    """Whether the local checkpoint is of the run of the Hub's, and ahead of it."""
    same_run = local and fetched and local.run_id == fetched.run_id
    return bool(same_run and local and fetched and (local.step > fetched.step or local.step == fetched.branched_from))


def require_new_model_allowed(inputs: Inputs) -> None:
    """Raises InputError for `resume: must`: there is no checkpoint to resume from."""
    if inputs.resume == "must":
        places = str(inputs.output_dir) + (f" and {inputs.repo_id}" if inputs.repo_id else "")
        raise InputError(
            f"resume: must, but there is no checkpoint in {places}. Nothing was trained.",
            "Check output_dir and repo_id, or set resume: auto to train a new model if there is no checkpoint.",
        )


def optimizer_of(facts: Metadata | None) -> OptimizerName:
    """The optimizer of a checkpoint with this metadata; for one of another program AdamW, which most of them use."""
    before = facts.settings.get("optimizer") if facts else None
    return next((name for name in OPTIMIZERS if name == before), "adamw")


def set_aside_other_runs(output_dir: Path, start: ModelFolder | None) -> None:
    """Rename the checkpoints in `output_dir` that are damaged, of another run than `start`, or later than it.

    Nothing is deleted, and none of them can be selected as the best checkpoint of this run.
    """
    run_id = start.metadata.run_id if start and start.metadata else None
    for folder in checkpoints(output_dir):
        same_run = start and (folder.path.samefile(start.path) or (folder.metadata and folder.metadata.run_id == run_id))
        branched = branched_from(folder)
        if not (start and same_run and (folder.step if branched is None else branched) <= start.step and _is_undamaged(folder)):
            note(f"not part of this run: {folder.path} was renamed to {set_aside(folder.path)}")
    log = output_dir / LOG_FILE
    if start is None and log.exists():
        set_aside(log)


def _given(inputs: Inputs) -> str:
    """The reason to start from the checkpoint that was given; "" if none was."""
    return f"checkpoint: {inputs.checkpoint} was given" if inputs.checkpoint not in (None, AUTO) else ""


def _local_checkpoint(inputs: Inputs) -> ModelFolder | None:
    if inputs.checkpoint == AUTO and (newest := _newest_undamaged(inputs.output_dir, inputs.size("max_iters"))):
        return newest
    if inputs.checkpoint:
        given = resolve_checkpoint(inputs)
        stable = stable_checkpoint_of(given)
        if stable.step != given.step:
            note(_decay_note(given, stable))
        return stable
    return None if inputs.resume == "never" else _newest_undamaged(inputs.output_dir, inputs.size("max_iters"))


def _newest_undamaged(output_dir: Path, max_iters: int | None) -> ModelFolder | None:
    """The checkpoint to resume from in `output_dir` with matching checksums; None if there is no checkpoint.

    Raises CheckpointError if there are checkpoints and all are damaged.
    """
    damaged = broken(output_dir)
    if foreign := foreign_checkpoints(output_dir):
        note(f"{foreign_text(foreign)} To resume from it, set checkpoint: {foreign[-1]}")
    for folder in resumable(output_dir, max_iters):
        try:
            check_weights(folder)
            check_state(folder)
        except CheckpointError as error:
            damaged.append(error)
            continue
        newest = latest(output_dir)
        if newest and branched_from(newest) == folder.step:
            note(_decay_note(newest, folder))
        for problem in damaged:
            warn(f"{problem.message} Resuming from {folder.path} (step {folder.step}) instead.")
        return folder
    if damaged:
        raise CheckpointError(
            f"All checkpoints in {output_dir} are damaged: {' '.join(error.message for error in damaged)} Nothing was trained.",
            "Pull the model again. To start over, set resume: never and confirm_fresh_start: true.",
        )
    return None


def _checked(inputs: Inputs, start: ModelFolder | None, reason: str) -> ModelFolder | None:
    """`start`, after checks of `resume: must` and of the weights' checksum; logs where training starts and the reason."""
    if start is None:
        require_new_model_allowed(inputs)
        if not inputs.init_from:  # pretrained.py logs that start
            note("start: a new model, because there is no checkpoint to resume from")
        return None
    check_weights(start)
    note(f"start: {start.path}, step {start.step}: {reason}")
    return start


def _decay_note(decayed: ModelFolder, stable: ModelFolder) -> str:
    return (
        f"steps {stable.step}-{decayed.step} were the decay phase of {decayed.path}; resuming from the stable checkpoint at "
        f"step {stable.step}: {stable.path}"
    )


def _is_undamaged(folder: ModelFolder) -> bool:
    try:
        check_weights(folder)
    except CheckpointError:
        return False
    return True
