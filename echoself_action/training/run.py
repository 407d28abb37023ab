"""A training run: where it starts, and what it writes down.

`fresh` and `continued` give a `Run`; `loop.train` takes its steps; `save` turns it into a checkpoint that `continued` reads.
"""

import platform
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors import SafetensorError

from ..checkpoint.atomic import new_folder
from ..checkpoint.folder import ModelFolder, architecture_of, new_model, read_model_folder, sha256, write_model
from ..checkpoint.metadata import DataFacts, Evaluation, Metadata, TokenizerFacts
from ..corpus.token_files import Tokens
from ..errors import CheckpointError
from ..model import Model, ModelConfig
from .batches import Batches
from .device import Precision, choose_precision
from .optimizer import make_optimizer, moments, restore_moments
from .schedule import Schedule, plan
from .settings import TrainingSettings
from .state import TrainingState, read_state, write_moments, write_state


@dataclass(frozen=True)
class Data:
    """The tokens to learn from, and the patterns that they came from."""

    tokens: Tokens
    patterns: Sequence[str]


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

    def save(self, output_dir: Path) -> ModelFolder:
        """Write `checkpoint-<step>`, whole or not at all. Raises CheckpointError where it can't be written."""
        final = output_dir / f"checkpoint-{self.step}"
        tokenizer = self.data.tokens.tokenizer
        try:
            with new_folder(final) as folder:
                digest = write_model(folder, self.model.config, self.model.state_dict(), tokenizer.end_of_text_id)
                tokenizer.save(folder, self.model.config.block_size)
                self._metadata(digest).write(folder)
                write_moments(folder, moments(self.model, self.optimizer))
                write_state(folder, self._state(digest))
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                f"{final} could not be written: {error}. The checkpoints before it are untouched.",
                "Free disk space, or give another output_dir.",
            ) from error
        return read_model_folder(final)

    def _state(self, weights_sha256: str) -> TrainingState:
        return TrainingState(
            sequences_seen=self.sequences_seen,
            schedule=self.schedule,
            weights_sha256=weights_sha256,
            seed=self.settings.seed,
            sequences_per_step=self.settings.sequences_per_step,
            dtype=str(self.precision.dtype).removeprefix("torch."),
            data_digest=self.data.tokens.digest,
        )

    def _metadata(self, weights_sha256: str) -> Metadata:
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
            evaluations=self.evaluations,
            weights_sha256=weights_sha256,
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
        schedule=plan(0, settings.max_iters, settings.warmup, settings.learning_rate),
    )


def continued(folder: ModelFolder, data: Data, settings: TrainingSettings, note: Callable[[str], None]) -> Run:
    """Go on from `folder`: exactly where it has a training state, else from its weights, saying so through `note`.

    A schedule that was cut short is finished first. Raises CheckpointError where the folder is damaged.
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
        schedule=plan(folder.step, settings.max_iters, settings.warmup, settings.learning_rate),
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
    if run.step < state.schedule.end:
        run.schedule = state.schedule
    for change in _changes(state, run._state(state.weights_sha256)):
        note(f"{change}: this run is not the one that would have been.")
    return run


def _changes(before: TrainingState, now: TrainingState) -> list[str]:
    changes = [
        f"{name} was {getattr(before, name)} and is now {getattr(now, name)}"
        for name in ("seed", "sequences_per_step", "dtype")
        if getattr(before, name) != getattr(now, name)
    ]
    return changes + (["the corpus has changed"] if before.data_digest != now.data_digest else [])
