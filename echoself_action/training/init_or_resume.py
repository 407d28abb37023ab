"""Start a training run: `new_run` initialises a model, `resume_run` loads a checkpoint.

With several processes, the main process calls one of these, and the others call `receive_run`.
"""

import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .. import native
from ..checkpoint.metadata import ImportFacts
from ..checkpoint.model_folder import WEIGHTS_FILE, ModelFolder, sha256
from ..checkpoint.weights import load_model, new_model
from ..errors import CheckpointError, InputError
from ..model import ModelConfig
from ..native.models import why_not as why_not_native
from .compile import why_not as why_not_compiled
from .config_diff import changes
from .curriculum import curriculum_of
from .distributed.process_group import SINGLE_PROCESS, ProcessGroup
from .distributed.sharding import distribute_model
from .optim.param_groups import make_optimizer, restore_moments
from .optim.schedule import Schedule, cosine_schedule, wsd_schedule
from .precision import Precision, choose_precision, fastest_dtype, name_of
from .run import Data, Kernels, Run
from .settings import TrainingSettings
from .training_state import LossScale, TrainingState, read_state


def new_run(config: ModelConfig, data: Data, settings: TrainingSettings, process_group: ProcessGroup = SINGLE_PROCESS) -> Run:
    """Start a run with a new model, initialised from the seed."""
    model = new_model(config)
    model.initialise(settings.seed)
    run = Run(
        run_id=uuid.uuid4().hex,
        model=model,
        precision=choose_precision(settings),
        settings=settings,
        data=data,
        schedule=_new_schedule(0, settings),
        curriculum=curriculum_of(settings, 0, None),
        process_group=process_group,
    )
    _prepare(run, None)
    _send_and_set_up(run, {})
    return run


def send_no_run(process_group: ProcessGroup) -> None:
    """Tell the other processes of the group that there is nothing to train."""
    process_group.broadcast(None)


def receive_run(process_group: ProcessGroup) -> Run | None:
    """Receive the run of the main process in another process of the group; None if there is nothing to train."""
    message: tuple[ModelConfig, Run] | None = process_group.broadcast(None)
    if message is None:
        return None
    config, outline = message
    tokens = outline.data.tokens
    tokens = replace(tokens, train=process_group.broadcast_array(None), val=process_group.broadcast_array(None))
    run = replace(outline, model=new_model(config), data=replace(outline.data, tokens=tokens), process_group=process_group)
    _set_up(run, {})
    return run


def resume_run(
    folder: ModelFolder,
    data: Data,
    settings: TrainingSettings,
    note: Callable[[str], None],
    process_group: ProcessGroup = SINGLE_PROCESS,
) -> Run:
    """Resume from `folder`: exactly if it has a training state, else from its weights only, which is logged through `note`.

    Raises CheckpointError if the folder is damaged.
    """
    model, known = load_model(folder), folder.metadata
    state: TrainingState | None = None
    if folder.has_training_state and known:
        state, stored = read_state(folder.path, sha256(folder.path / WEIGHTS_FILE))
    # `auto` keeps the dtype of earlier runs, but not that of another program
    trained_in = state.dtype if state and known and not known.is_import else None
    run = Run(
        run_id=uuid.uuid4().hex,
        model=model,
        precision=choose_precision(settings, trained_in),
        settings=settings,
        data=data,
        step=folder.step,
        schedule=_new_schedule(folder.step, settings),
        curriculum=curriculum_of(settings, folder.step, known.curriculum if known else None),
        process_group=process_group,
    )
    if known:
        run.run_id, run.tokens_seen, run.elapsed_s = known.run_id, known.tokens_seen, known.elapsed_s
        run.train_loss, run.evaluations = known.train_loss, list(known.evaluations)
        run.init_from, run.imported_from, run.assumptions = known.init_from, known.imported_from, known.assumptions
        if known.is_measured_on(data.tokens.digest, data.tokens.val_digest, settings.eval_tokens):
            run.val_loss, run.best_val_loss, run.best_step = known.val_loss, known.best_val_loss, known.best_step
    else:
        name = "" if folder.path.name.startswith("checkpoint-") else folder.path.name  # that of a download says nothing
        digest = sha256(folder.path / WEIGHTS_FILE)
        run.imported_from = ImportFacts(layout="a model folder", file=name, fingerprint=digest, step=folder.step)
    if not state or not known:
        run.sequences_seen = run.tokens_seen // model.config.block_size
        if run.step or not run.init_from:
            weights = f"resuming from its weights at step {run.step}, with a new optimizer state."
            note(f"{folder.path} has no training state: {weights}")
        _prepare(run, None)
        _send_and_set_up(run, {})
        return run
    run.sequences_seen, run.rollbacks = state.sequences_seen, state.rollbacks
    if state.data_digest == data.tokens.digest:
        is_same = (state.curriculum and state.curriculum.phases) == settings.phases
        run.runs_without_gain, run.max_learning_rate = state.runs_without_gain if is_same else 0, state.max_learning_rate
        run.settings = settings = _limited_rate(settings, state.max_learning_rate, note)
    run.schedule = _resumed_schedule(state.schedule, run.step, settings)
    _prepare(run, state)
    try:
        _send_and_set_up(run, stored)
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"{folder.path} has the optimizer state of another model: {error}. Training was not resumed.",
            "Delete its training_state folder to resume from the weights alone.",
        ) from error
    for change in changes(state, known.settings, run.state(), settings, run.step):
        note(change)
    if trained_in and settings.dtype == "auto":
        _note_kept_dtype(run.precision, note)
    return run


def _limited_rate(settings: TrainingSettings, limit: float | None, note: Callable[[str], None]) -> TrainingSettings:
    if limit is None or settings.learning_rate <= limit:
        return settings
    note(
        f"learning_rate is {limit:g} instead of {settings.learning_rate:g}: the run before, at {2 * limit:g}, went "
        "back to this step. The limit is lifted when the corpus changes."
    )
    return settings.model_copy(update={"learning_rate": limit})


def _note_kept_dtype(precision: Precision, note: Callable[[str], None]) -> None:
    kept, fastest = precision.dtype_name, name_of(fastest_dtype(precision.device))
    as_fast = precision.dtype is torch.bfloat16 and not native.why_not(precision.dtype)  # also without the hardware for it
    if kept != fastest and not as_fast:
        note(
            f"dtype: auto keeps {kept}, the dtype of the earlier runs of this model. {fastest} is faster on this machine; "
            f"to use it, set dtype: {fastest}."
        )


def _prepare(run: Run, before: TrainingState | None) -> None:
    """Continue float16's loss scale. Raises InputError if `compile: true` can't be met."""
    if run.precision.dtype is torch.float16:
        run.loss_scale = (before and before.loss_scale) or LossScale()
    reason = why_not_compiled(run.model, run.precision.device, run.sharded)
    if run.settings.compile == "true" and reason:
        raise InputError(
            f"compile: true can't be used here: {reason}. Nothing was trained.",
            "Use compile: auto, which compiles if it is possible.",
        )


def _send_and_set_up(run: Run, stored: dict[str, Tensor]) -> None:
    """Send `run` to the other processes (`receive_run`), and set it up with the `stored` optimizer state."""
    process_group, settings = run.process_group, run.settings
    if settings.batch_size % process_group.world_size:
        raise InputError(
            f"batch_size: {settings.batch_size} can't be divided by {process_group.world_size} processes. Nothing was trained.",
            f"Use a multiple of {process_group.world_size}, and gradient_accumulation for the rest of a step.",
        )
    tokens = run.data.tokens
    if process_group.world_size > 1:
        nothing: Any = None
        outline = replace(run.data, tokens=replace(tokens, train=nothing, val=nothing))
        process_group.broadcast((run.model.config, replace(run, model=nothing, data=outline)))
        process_group.broadcast_array(tokens.train)
        process_group.broadcast_array(tokens.val)
    _set_up(run, stored)


def _set_up(run: Run, stored: dict[str, Tensor]) -> None:
    """Move the model to its device and create the optimizer, with the main process's weights and moments in every process."""
    settings = run.settings
    distribute_model(run.model, run.precision.device, run.process_group, run.sharded)
    run.kernels = _choose_kernels(run)
    run.optimizer = make_optimizer(
        run.model, settings.optimizer, settings.learning_rate, settings.weight_decay, run.precision.dtype, run.by_native
    )
    restore_moments(run.model, run.optimizer, stored, run.process_group)


def _choose_kernels(run: Run) -> Kernels:
    """Choose what computes the forward and backward pass. All processes use the same kernels."""
    no_compile = run.settings.compile == "false" or why_not_compiled(run.model, run.precision.device, run.sharded)
    own = None if why_not_native(run.model, run.precision.dtype) else native.instruction_set(run.precision.dtype)
    differs = run.process_group.broadcast(own) != own
    cannot_compile, cannot_use_native = run.process_group.any(bool(no_compile), own is None or differs)
    if not cannot_compile:
        return "compiled"
    return "eager" if cannot_use_native or own is None else own


def _new_schedule(step: int, settings: TrainingSettings) -> Schedule:
    warmup = (settings.max_iters or 0) // 20 if settings.warmup is None else settings.warmup
    if settings.total_iters:
        return cosine_schedule(step, settings.total_iters, warmup, settings.learning_rate)
    return wsd_schedule(step, warmup, settings.learning_rate)


def _resumed_schedule(before: Schedule, step: int, settings: TrainingSettings) -> Schedule:
    """The schedule of the checkpoint, or a new one if that has ended or the settings ask for another."""
    if settings.total_iters:
        same = before.shape == "cosine" and before.end == settings.total_iters
        return before if same else cosine_schedule(step, settings.total_iters, 0, settings.learning_rate)
    if before.shape == "cosine":
        return before if step < before.end else _new_schedule(step, settings)
    if before.decays_from(step) is not None and step >= before.end:  # decayed, and resumed without a stable checkpoint
        return _new_schedule(step, settings)
    return replace(before, peak=settings.learning_rate)
