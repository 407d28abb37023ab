"""The state of a training run, and its checkpoints.

init_or_resume.py creates a `Run`, trainer.py trains it, and a `Snapshot` of it is written as a checkpoint.
"""

import hashlib
import platform
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from torch import Tensor

from ..checkpoint.architectures import architecture_of
from ..checkpoint.atomic import new_folder
from ..checkpoint.metadata import DataFacts, Evaluation, ImportFacts, Metadata, PretrainedFacts, TokenizerFacts
from ..checkpoint.model_folder import ModelFolder, read_model_folder
from ..checkpoint.select import checkpoint_path, free_path
from ..checkpoint.weights import write_model
from ..corpus.tokenizer import Tokenizer
from ..corpus.tokens import Tokens
from ..errors import CheckpointError
from ..evaluation.held_out import write_held_out
from ..evaluation.loss import HeldOut
from ..model import Model, ModelConfig
from ..model.gpt2 import GPT2
from .batches import Batches
from .curriculum import Curriculum
from .distributed.process_group import SINGLE_PROCESS, ProcessGroup
from .distributed.sharding import whole
from .optim.param_groups import Optimizer, moments
from .optim.schedule import Schedule
from .precision import Precision
from .settings import TrainingSettings
from .training_state import LossScale, TrainingState, write_moments, write_state
from .weighted_stream import WeightedSources

Kernels = str
"""`eager`: PyTorch's own operations; `compiled`: torch.compile; else the instruction set of the C kernels."""
Loss = Callable[[Tensor, Tensor], Tensor]  # (ids, targets), each (batch, block_size) -> the mean loss, a scalar
_MAX_HELD_OUT = 1 << 20  # held-out tokens saved with a checkpoint if eval_tokens is 0 (all)


@dataclass(frozen=True)
class Data:
    """The corpus as tokens, and the file patterns it was read from."""

    tokens: Tokens
    patterns: Sequence[str]


@dataclass(frozen=True)
class Snapshot:
    """The content of a checkpoint, copied so that training continues while it is written."""

    path: Path
    config: ModelConfig
    weights: Mapping[str, Tensor]
    moments: Mapping[str, Tensor]
    tokenizer: Tokenizer
    metadata: Metadata
    state: TrainingState
    held_out: Sequence[npt.NDArray[np.integer]]

    def write(self) -> ModelFolder:
        """Write the checkpoint atomically. Raises CheckpointError if it can't be written.

        An existing checkpoint with its name is kept, under that or another name (checkpoint/select.py).
        """
        if not all(bool(tensor.isfinite().all()) for tensor in self.weights.values()):
            raise CheckpointError(f"{self.path} has weights that are NaN or infinite. It was not written.")
        try:
            path = free_path(self.path)
            with new_folder(path) as folder:
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
                "Free disk space, or set another output_dir.",
            ) from error
        return read_model_folder(path)


@dataclass
class Run:
    """A model in training and its progress. Losses are in nats per token; `elapsed_s` counts all runs of the model.

    `bytes_per_token` is the mean size of a predicted held-out token, `tokens_per_second` the speed of this run so far.
    `init_from` is the pretrained model that step 0 was, None if it had random weights. `imported_from` and `assumptions` are
    those of an imported model. `kernels` compute the forward and backward pass (chosen in init_or_resume.py). `loss_scale` is
    None unless in float16.
    `rollbacks`, `max_learning_rate`, `runs_without_gain` and `curriculum` are those of the training state.
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
    bytes_per_token: float | None = None
    tokens_per_second: float | None = None
    init_from: PretrainedFacts | None = None
    imported_from: ImportFacts | None = None
    assumptions: tuple[str, ...] = ()
    loss_scale: LossScale | None = None
    rollbacks: int = 0
    max_learning_rate: float | None = None
    runs_without_gain: int = 0
    curriculum: Curriculum | None = None
    kernels: Kernels = "eager"
    evaluations: list[Evaluation] = field(default_factory=list)
    process_group: ProcessGroup = SINGLE_PROCESS

    @property
    def sharded(self) -> bool:
        """Whether each process has only its shard of the model."""
        return self.settings.sharding == "full" and self.process_group.world_size > 1

    @property
    def by_native(self) -> bool:
        """Whether native kernels compute the steps."""
        return self.kernels not in ("eager", "compiled")

    @property
    def stream_seed(self) -> int:
        """The seed of batches and dropout: another one after each run that was rolled back."""
        return self.settings.seed + self.rollbacks

    def batches(self) -> Batches:
        tokens, block_size, noise = self.data.tokens, self.model.config.block_size, self.settings.input_noise
        weighted = WeightedSources.of(self.curriculum, tokens) if self.curriculum else None
        return Batches(tokens.train, block_size, self.stream_seed, tokens.digest, noise, weighted)

    def learning_rate(self, step: int) -> float:
        """The learning rate of the update from `step` to `step + 1`: the schedule's, times the factor of the phase."""
        rate = self.schedule.learning_rate(step)
        return rate * self.curriculum.phase(step).learning_rate if self.curriculum else rate

    def advance(self) -> None:
        """Tell the model the step, on which its depth and connections depend."""
        if self.curriculum and not isinstance(self.model, GPT2):
            self.model.advance(self.step, self.curriculum.connections(self.step, self.model.config.connection_ratio))
        else:
            self.model.advance(self.step)

    def snapshot(self, output_dir: Path, copies: dict[str, Tensor]) -> Snapshot | None:
        """Copy the content of a checkpoint at this step. Tensors are copied into `copies`, which are allocated if needed.

        The snapshot is valid until the next one with the same `copies`. Collective; returns None except in the main process.
        """
        tokens, weights = self.data.tokens, self.model.state_dict()
        held = moments(self.model, self.optimizer)
        for name, part in (weights | held).items():
            tensor = whole(part)
            if not self.process_group.is_main:
                continue
            copy = copies.get(name)
            if copy is None or copy.shape != tensor.shape:
                copies[name] = copy = torch.empty_like(tensor, device="cpu")
            copy.copy_(tensor)
        if not self.process_group.is_main:
            return None
        metadata = self._metadata()
        return Snapshot(
            path=checkpoint_path(output_dir, metadata),
            config=deepcopy(self.model.config),
            weights={name: copies[name] for name in weights},
            moments={name: copies[name] for name in held},
            tokenizer=self.data.tokens.tokenizer,
            metadata=metadata,
            state=self.state(),
            held_out=HeldOut(tokens.val, self.model.config.block_size, self.settings.eval_tokens or _MAX_HELD_OUT).windows(),
        )

    def state(self) -> TrainingState:
        """The training state of a checkpoint. The digests are added when the tensors are written."""
        return TrainingState(
            sequences_seen=self.sequences_seen,
            schedule=self.schedule,
            weights_sha256="",
            moments_sha256=None,
            loss_scale=self.loss_scale,
            compiled=self.kernels == "compiled",
            instruction_set=self.kernels if self.by_native else None,
            rollbacks=self.rollbacks,
            max_learning_rate=self.max_learning_rate,
            runs_without_gain=self.runs_without_gain,
            curriculum=self.curriculum,
            seed=self.settings.seed,
            sequences_per_step=self.settings.sequences_per_step,
            dtype=self.precision.dtype_name,
            data_digest=self.data.tokens.digest,
            val_digest=self.data.tokens.val_digest,
            val_fraction=self.data.tokens.val_fraction,
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
            bytes_per_token=self.bytes_per_token,
            tokens_per_second=self.tokens_per_second,
            architecture=architecture_of(self.model.config).name,
            parameters=self.model.parameter_count(),
            tokenizer=TokenizerFacts(name=tokenizer.name, digest=tokenizer.digest, vocab_size=tokenizer.vocab_size),
            data=DataFacts(
                digest=tokens.digest,
                val_digest=tokens.val_digest,
                patterns=list(self.data.patterns),
                documents=tokens.documents,
                val_documents=tokens.val_documents,
                train_tokens=len(tokens.train),
                val_tokens=len(tokens.val),
                leaked_bytes=tokens.leaked_bytes,
                common_bytes=tokens.common_bytes,
                compared_tokens=tokens.repeated.compared if tokens.repeated else None,
                repeated_tokens=tokens.repeated.repeated if tokens.repeated else None,
                common_tokens=tokens.repeated.common if tokens.repeated else None,
                ppmd_bits_per_byte=tokens.ppmd_bits_per_byte,
            ),
            init_from=self.init_from,
            imported_from=self.imported_from,
            assumptions=self.assumptions,
            settings=self.settings.record()
            | {"computed_in": self.precision.dtype_name, "processes": self.process_group.world_size},
            versions={name: version(name) for name in ("echoself-action", "torch", "numpy", "tokenizers")}
            | {"python": platform.python_version()},
            device=self.precision.device_name,
            evaluations=list(self.evaluations),
            curriculum=self.curriculum.facts if self.curriculum else None,
            branched_from=(decay_start := self.schedule.decays_from(self.step)),
            branch_end=None if decay_start is None else self.schedule.end,
            weights_sha256="",
        )
