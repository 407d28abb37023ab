"""A training run: where it starts, and what it writes down.

`fresh` and `continued` give a `Run`; `loop.train` takes its steps; a `Snapshot` of it becomes a checkpoint that `continued`
reads. Of several processes the lead does that, and the others get the same run with `joining`.
"""

import hashlib
import platform
import uuid
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from torch import Tensor

from ..checkpoint.atomic import new_folder, set_aside
from ..checkpoint.folder import ModelFolder, architecture_of, read_model_folder, sha256
from ..checkpoint.metadata import DataFacts, Evaluation, Metadata, TokenizerFacts
from ..checkpoint.weights import new_model, write_model
from ..corpus.token_files import Tokens
from ..corpus.tokenizer import Tokenizer
from ..errors import CheckpointError, InputError
from ..evaluation.loss import HeldOut
from ..model import Model, ModelConfig
from ..model.native_blocks import why_not as why_not_native
from .batches import Batches
from .changes import changes
from .compiled import why_not
from .device import Precision, choose_precision
from .held_out import write_held_out
from .loss_scale import LossScale
from .optimizer import Optimizer, make_optimizer, moments, restore_moments
from .parallel import ALONE, Team
from .schedule import Schedule, open_ended, over_total
from .settings import TrainingSettings
from .sharding import place, whole
from .state import TrainingState, read_state, write_moments, write_state
from .threads import thread_count

_MOST_KEPT = 1 << 20  # held-out tokens that lie with a checkpoint, where evaluations read all


@dataclass(frozen=True)
class Data:
    """The tokens to learn from, and the patterns that they came from."""

    tokens: Tokens
    patterns: Sequence[str]


@dataclass(frozen=True)
class Snapshot:
    """All that a checkpoint holds: a run goes on while it is written."""

    path: Path
    config: ModelConfig
    weights: Mapping[str, Tensor]
    moments: Mapping[str, Tensor]
    tokenizer: Tokenizer
    metadata: Metadata
    state: TrainingState
    held_out: Sequence[npt.NDArray[np.integer]]

    def write(self) -> ModelFolder:
        """Write the checkpoint, whole or not at all. Raises CheckpointError where it can't be written.

        Another checkpoint of this step, from a branch that was left, is set aside.
        """
        if not all(bool(tensor.isfinite().all()) for tensor in self.weights.values()):
            raise CheckpointError(f"{self.path} would hold weights that are no numbers. It was not written.")
        try:
            if self.path.exists():
                set_aside(self.path)
            with new_folder(self.path) as folder:
                digest = write_model(folder, self.config, self.weights, self.tokenizer.end_of_text_id)
                self.tokenizer.save(folder, self.config.block_size)
                write_held_out(folder, self.held_out)
                self.metadata.model_copy(update={"weights_sha256": digest}).write(folder)
                hashed = hashlib.sha256()
                write_moments(folder, self.moments, hashed=hashed.update)
                digests = {"weights_sha256": digest, "moments_sha256": hashed.hexdigest()}
                write_state(folder, self.state.model_copy(update=digests))
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                f"{self.path} could not be written: {error}. The checkpoints before it are untouched.",
                "Free disk space, or give another output_dir.",
            ) from error
        return read_model_folder(self.path)


@dataclass
class Run:
    """A model in training, and where it stands. Losses are nats per token; `elapsed_s` counts all runs of the model.

    `compiled` says whether its steps are to be, `native` whether native code computes what it can, `loss_scale` is
    float16's.
    """

    run_id: str
    model: Model
    optimizer: Optimizer = field(init=False)
    precision: Precision
    settings: TrainingSettings
    data: Data
    schedule: Schedule
    step: int = 0
    sequences_seen: int = 0
    tokens_seen: int = 0
    elapsed_s: float = 0.0
    train_loss: float | None = None
    val_loss: float | None = None
    best_val_loss: float | None = None
    best_step: int | None = None
    loss_scale: LossScale | None = None
    compiled: bool = False
    native: bool = field(init=False)
    evaluations: list[Evaluation] = field(default_factory=list)
    team: Team = ALONE

    @property
    def sharded(self) -> bool:
        """Whether each process holds a part of the model only."""
        return self.settings.sharding == "full" and self.team.size > 1

    def batches(self) -> Batches:
        tokens = self.data.tokens
        return Batches(tokens.train, self.model.config.block_size, self.settings.seed, tokens.digest)

    def snapshot(self, output_dir: Path, copies: dict[str, Tensor]) -> Snapshot | None:
        """A copy of all that the checkpoint of this step holds. Tensors are copied into `copies`, which is made to fit.

        A snapshot is good until the next one with the same `copies`. All processes of a run have to ask for it, and only
        the lead gets it.
        """
        tokens, weights = self.data.tokens, self.model.state_dict()
        held = moments(self.model, self.optimizer)
        for name, part in (weights | held).items():
            tensor = whole(part)
            if not self.team.is_lead:
                continue
            copy = copies.get(name)
            if copy is None or copy.shape != tensor.shape:
                copies[name] = copy = torch.empty_like(tensor, device="cpu")
            copy.copy_(tensor)
        if not self.team.is_lead:
            return None
        return Snapshot(
            path=output_dir / f"checkpoint-{self.step}",
            config=deepcopy(self.model.config),
            weights={name: copies[name] for name in weights},
            moments={name: copies[name] for name in held},
            tokenizer=self.data.tokens.tokenizer,
            metadata=self._metadata(),
            state=self._state(),
            held_out=HeldOut(tokens.val, self.model.config.block_size, self.settings.eval_tokens or _MOST_KEPT).windows(),
        )

    def _state(self) -> TrainingState:
        return TrainingState(
            sequences_seen=self.sequences_seen,
            schedule=self.schedule,
            weights_sha256="",
            moments_sha256=None,
            loss_scale=self.loss_scale,
            compiled=self.compiled,
            native=self.native,
            seed=self.settings.seed,
            sequences_per_step=self.settings.sequences_per_step,
            dtype=str(self.precision.dtype).removeprefix("torch."),
            data_digest=self.data.tokens.digest,
        )

    def _metadata(self) -> Metadata:
        tokens, tokenizer = self.data.tokens, self.data.tokens.tokenizer
        return Metadata(
            run_id=self.run_id,
            step=self.step,
            tokens_seen=self.tokens_seen,
            elapsed_s=round(self.elapsed_s, 3),
            train_loss=self.train_loss,
            val_loss=self.val_loss,
            best_val_loss=self.best_val_loss,
            best_step=self.best_step,
            architecture=architecture_of(self.model.config),
            parameters=self.model.parameter_count(),
            tokenizer=TokenizerFacts(name=tokenizer.name, digest=tokenizer.digest, vocab_size=tokenizer.vocab_size),
            data=DataFacts(
                digest=tokens.digest,
                patterns=list(self.data.patterns),
                documents=tokens.documents,
                val_documents=tokens.val_documents,
                train_tokens=len(tokens.train),
                val_tokens=len(tokens.val),
            ),
            settings=asdict(self.settings)
            | {"computed_in": str(self.precision.dtype).removeprefix("torch."), "processes": self.team.size},
            versions={name: version(name) for name in ("echoself-action", "torch", "numpy", "tokenizers")}
            | {"python": platform.python_version()},
            device=self.precision.device_name,
            evaluations=list(self.evaluations),
            branched_from=(branch := self.schedule.branched_from(self.step)),
            branch_end=None if branch is None else self.schedule.end,
            weights_sha256="",
        )


def fresh(config: ModelConfig, data: Data, settings: TrainingSettings, team: Team = ALONE) -> Run:
    """A new model, initialised from the seed."""
    model = new_model(config)
    model.initialise(settings.seed)
    run = Run(
        run_id=uuid.uuid4().hex,
        model=model,
        precision=choose_precision(settings),
        settings=settings,
        data=data,
        schedule=_new_schedule(0, settings),
        team=team,
    )
    _decide(run, None)
    _begin(run, {})
    return run


def joining(team: Team) -> Run:
    """The run that the lead of `team` has, in a process that helps with it."""
    sent: tuple[ModelConfig, Run] | None = team.from_lead(None)
    assert sent
    config, outline = sent
    tokens = outline.data.tokens
    tokens = replace(tokens, train=team.array_from_lead(None), val=team.array_from_lead(None))
    run = replace(outline, model=new_model(config), data=replace(outline.data, tokens=tokens), team=team)
    _set_up(run, {})
    return run


def continued(
    folder: ModelFolder, data: Data, settings: TrainingSettings, note: Callable[[str], None], team: Team = ALONE
) -> Run:
    """Go on from `folder`: exactly where it has a training state, else from its weights, saying so through `note`.

    Raises CheckpointError where the folder is damaged.
    """
    model = folder.load_model()
    run = Run(
        run_id=uuid.uuid4().hex,
        model=model,
        precision=choose_precision(settings),
        settings=settings,
        data=data,
        step=folder.step,
        schedule=_new_schedule(folder.step, settings),
        team=team,
    )
    known = folder.metadata
    if known:
        run.run_id, run.tokens_seen, run.elapsed_s = known.run_id, known.tokens_seen, known.elapsed_s
        run.train_loss, run.evaluations = known.train_loss, list(known.evaluations)
        if known.data and known.data.digest == data.tokens.digest:
            run.val_loss, run.best_val_loss, run.best_step = known.val_loss, known.best_val_loss, known.best_step
    if not folder.has_training_state or not known:
        run.sequences_seen = run.tokens_seen // model.config.block_size
        note(f"{folder.path} has no training state: going on from its weights at step {run.step}, with a new optimizer.")
        _decide(run, None)
        _begin(run, {})
        return run
    state, stored = read_state(folder.path, sha256(folder.path / "model.safetensors"))
    run.sequences_seen = state.sequences_seen
    run.schedule = _continued_schedule(state.schedule, run.step, settings)
    _decide(run, state)
    try:
        _begin(run, stored)
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"{folder.path} has the optimizer state of another model: {error}. Training was not continued.",
            "Delete its training_state folder to go on from the weights alone.",
        ) from error
    for change in changes(state, known.settings, run._state(), settings, run.step):
        note(change)
    return run


def _decide(run: Run, before: TrainingState | None) -> None:
    """What a run keeps to the end, as it was `before`, where it can be."""
    settings = run.settings
    if run.precision.dtype is torch.float16:
        run.loss_scale = (before and before.loss_scale) or LossScale()
    hindrance = why_not(run.model, run.precision.device, run.sharded)
    if settings.compile == "true" and hindrance:
        raise InputError(
            f"compile: true was asked for, and the model can't be compiled here: {hindrance}. Nothing was trained.",
            "Use compile: auto, or change that.",
        )
    wanted = settings.compile == "true" or (settings.compile == "auto" and before is not None and before.compiled)
    run.compiled = wanted and not hindrance


def _begin(run: Run, stored: dict[str, Tensor]) -> None:
    """Make `run` known to the other processes, for `joining`, and set it up with the optimizer state that is `stored`."""
    team, settings = run.team, run.settings
    if settings.batch_size % team.size:
        raise InputError(
            f"batch_size: {settings.batch_size} sequences can't be shared by {team.size} processes. Nothing was trained.",
            f"Use a multiple of {team.size}, and gradient_accumulation for the rest of a step.",
        )
    tokens = run.data.tokens
    if team.size > 1:
        nothing: Any = None
        outline = replace(run.data, tokens=replace(tokens, train=nothing, val=nothing))
        team.from_lead((run.model.config, replace(run, model=nothing, data=outline)))
        team.array_from_lead(tokens.train)
        team.array_from_lead(tokens.val)
    _set_up(run, stored)


def _set_up(run: Run, stored: dict[str, Tensor]) -> None:
    """Put the model where it computes, and give it its optimizer: in every process the lead's weights and moments."""
    settings = run.settings
    place(run.model, run.precision.device, run.team, run.sharded)
    dtype = run.precision.dtype
    parts = thread_count(run.model, run.precision.device, run.sharded)
    (hindered,) = run.team.any(parts == 1 or why_not_native(run.model, dtype) is not None)
    run.native = not run.compiled and not hindered
    run.optimizer = make_optimizer(
        run.model, settings.optimizer, settings.learning_rate, settings.weight_decay, dtype, parts, run.native
    )
    restore_moments(run.model, run.optimizer, stored, run.team)


def _new_schedule(step: int, settings: TrainingSettings) -> Schedule:
    warmup = settings.max_iters // 20 if settings.warmup is None else settings.warmup
    if settings.total_iters:
        return over_total(step, settings.total_iters, warmup, settings.learning_rate)
    return open_ended(step, warmup, settings.learning_rate)


def _continued_schedule(before: Schedule, step: int, settings: TrainingSettings) -> Schedule:
    """The schedule that the model is on, or a new one where that has ended or another is asked for."""
    if settings.total_iters:
        same = before.shape == "cosine" and before.end == settings.total_iters
        return before if same else over_total(step, settings.total_iters, 0, settings.learning_rate)
    if before.shape == "cosine":
        return before if step < before.end else _new_schedule(step, settings)
    if before.branched_from(step) is not None and step >= before.end:  # a branch that has ended, and no line to go back to
        return _new_schedule(step, settings)
    return replace(before, peak=settings.learning_rate)
