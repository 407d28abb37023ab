"""What a training run needs to know, and the presets: sizes and budgets for a CI runner's four CPU cores."""

from dataclasses import dataclass
from typing import Literal

from .optim.optimizers import OptimizerName

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Compile = Literal["auto", "true", "false"]
Device = Literal["auto", "cpu", "cuda"]
Sharding = Literal["none", "full"]


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of one run. Counts are optimizer steps unless they say otherwise.

    A step sees `batch_size * gradient_accumulation` sequences of block_size tokens. `warmup` None is a twentieth of the
    run; `max_minutes` 0 is no limit. `total_iters` None is an open-ended schedule, where the last `decay` of a run's steps
    (a share) are on a branch. `eval_tokens` is how much of the validation split an evaluation reads, 0 for all.
    `checkpoint_minutes` 0 is by steps alone. `sharding` is about several processes: `full` parts weights, gradients and
    moments among them.
    """

    max_iters: int
    max_minutes: float
    total_iters: int | None
    decay: float
    batch_size: int
    gradient_accumulation: int
    optimizer: OptimizerName
    learning_rate: float
    warmup: int | None
    weight_decay: float
    grad_clip: float
    seed: int
    dtype: Dtype
    compile: Compile
    device: Device
    eval_interval: int
    eval_tokens: int
    checkpoint_interval: int
    checkpoint_minutes: float
    log_interval: int
    keep_checkpoints: int
    sharding: Sharding = "none"

    @property
    def sequences_per_step(self) -> int:
        return self.batch_size * self.gradient_accumulation


@dataclass(frozen=True)
class Preset:
    """Defaults for the inputs of the same names. Those for the learning rate are the optimizer's (optim/optimizers.py)."""

    n_layer: int
    n_head: int
    n_embd: int
    block_size: int
    dropout: float
    batch_size: int
    gradient_accumulation: int
    max_iters: int
    max_minutes: float
    eval_interval: int
    checkpoint_interval: int
    log_interval: int


# The time limits leave room for the rest of a job (10 minutes, an hour, and 5.5 of the 6 hours of a hosted runner).
PRESETS = {
    "ci": Preset(4, 4, 256, 128, 0.0, 8, 1, 200, 8.0, 50, 100, 10),
    "scheduled": Preset(6, 6, 384, 256, 0.1, 8, 2, 2000, 50.0, 200, 200, 20),
    "full": Preset(8, 8, 512, 512, 0.1, 8, 4, 20000, 330.0, 500, 500, 50),
}
