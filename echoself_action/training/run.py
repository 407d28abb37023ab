"""A training run: where it starts, and what it writes down.

`fresh` and `continued` give a `Run`; `loop.train` takes its steps; a `Snapshot` of it becomes a checkpoint that `continued`
reads.
"""

import hashlib
import platform
import uuid
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from torch import Tensor

from ..checkpoint.atomic import new_folder, set_aside
from ..checkpoint.folder import ModelFolder, architecture_of, new_model, read_model_folder, sha256, write_model
from ..checkpoint.metadata import DataFacts, Evaluation, Metadata, TokenizerFacts
from ..corpus.token_files import Tokens
from ..corpus.tokenizer import Tokenizer
from ..errors import CheckpointError
from ..evaluation.loss import HeldOut
from ..model import Model, ModelConfig
from .batches import Batches
from .device import Precision, choose_precision
from .held_out import write_held_out
from .optimizer import make_optimizer, moments, restore_moments
from .schedule import Schedule, open_ended, over_total
from .settings import TrainingSettings
from .state import TrainingState, read_state, write_moments, write_state

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
    """A model in training, and where it stands. Losses are nats per token; `elapsed_s` counts all runs of the model."""

    run_id: str
    model: Model
    optimizer: torch.optim.AdamW
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
    evaluations: list[Evaluation] = field(default_factory=list)

    def batches(self) -> Batches:
        tokens = self.data.tokens
        return Batches(tokens.train, self.model.config.block_size, self.settings.seed, tokens.digest)

    def snapshot(self, output_dir: Path, copies: dict[str, Tensor]) -> Snapshot:
        """A copy of all that the checkpoint of this step holds. Tensors are copied into `copies`, which is made to fit.

        A snapshot is good until the next one with the same `copies`.
        """
        tokens, weights = self.data.tokens, self.model.state_dict()
        held = moments(self.model, self.optimizer)
        for name, tensor in (weights | held).items():
            copy = copies.get(name)
            if copy is None or copy.shape != tensor.shape:
                copies[name] = copy = torch.empty_like(tensor, device="cpu")
            copy.copy_(tensor)
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
            settings=asdict(self.settings) | {"computed_in": str(self.precision.dtype).removeprefix("torch.")},
            versions={name: version(name) for name in ("echoself-action", "torch", "numpy", "tokenizers")}
            | {"python": platform.python_version()},
            device=self.precision.device_name,
            evaluations=list(self.evaluations),
            branched_from=(branch := self.schedule.branched_from(self.step)),
            branch_end=None if branch is None else self.schedule.end,
            weights_sha256="",
        )


def fresh(config: ModelConfig, data: Data, settings: TrainingSettings) -> Run:
    """A new model, initialised from the seed."""
    precision = choose_precision(settings)
    model = new_model(config)
    model.initialise(settings.seed)
    torch.nn.Module.to(model, precision.device)
    return Run(
        run_id=uuid.uuid4().hex,
        model=model,
        optimizer=make_optimizer(model, settings.learning_rate, settings.weight_decay),
        precision=precision,
        settings=settings,
        data=data,
        schedule=_new_schedule(0, settings),
    )


def continued(folder: ModelFolder, data: Data, settings: TrainingSettings, note: Callable[[str], None]) -> Run:
    """Go on from `folder`: exactly where it has a training state, else from its weights, saying so through `note`.

    Raises CheckpointError where the folder is damaged.
    """
    precision = choose_precision(settings)
    model = folder.load_model()
    torch.nn.Module.to(model, precision.device)
    optimizer = make_optimizer(model, settings.learning_rate, settings.weight_decay)
    run = Run(
        run_id=uuid.uuid4().hex,
        model=model,
        optimizer=optimizer,
        precision=precision,
        settings=settings,
        data=data,
        step=folder.step,
        schedule=_new_schedule(folder.step, settings),
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
        return run
    state, stored = read_state(folder.path, sha256(folder.path / "model.safetensors"))
    try:
        restore_moments(model, optimizer, stored)
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"{folder.path} has the optimizer state of another model: {error}. Training was not continued.",
            "Delete its training_state folder to go on from the weights alone.",
        ) from error
    run.sequences_seen = state.sequences_seen
    run.schedule = _continued_schedule(state.schedule, run.step, settings)
    for change in _changes(state, run._state()):
        note(f"{change}: this run is not the one that would have been.")
    return run


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


def _changes(before: TrainingState, now: TrainingState) -> list[str]:
    changes = [
        f"{name} was {getattr(before, name)} and is now {getattr(now, name)}"
        for name in ("seed", "sequences_per_step", "dtype")
        if getattr(before, name) != getattr(now, name)
    ]
    if before.schedule.shape == "linear" and before.schedule.peak != now.schedule.peak:
        changes.append(f"learning_rate was {before.schedule.peak:g} and is now {now.schedule.peak:g}")
    return changes + (["the corpus has changed"] if before.data_digest != now.data_digest else [])
