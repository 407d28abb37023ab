"""The settings of a training run, and the presets: model sizes and training budgets for a CI runner with four CPU cores."""

from dataclasses import dataclass
from typing import Annotated, Literal

from .optim.optimizers import OptimizerName

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Compile = Literal["auto", "true", "false"]
Device = Literal["auto", "cpu", "cuda"]
Sharding = Literal["none", "full"]


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of one run. Counts are optimizer steps unless stated otherwise.

    A step sees `batch_size * gradient_accumulation` sequences of block_size tokens. `warmup` None is 5% of the run;
    `max_minutes` 0 is no limit. With `total_iters` None the learning rate is constant, and the last `decay` (a fraction) of
    a run's steps are its decay phase. `eval_tokens` is the number of held-out tokens per evaluation, 0 for all.
    `checkpoint_minutes` 0 saves by steps only. `sharding` full shards parameters, gradients and optimizer state over the
    processes.

    An annotation with a text is the effect of a change of that setting, which a resumed run reports.
    """

    max_iters: int
    max_minutes: float
    total_iters: int | None
    decay: Annotated[float, "the decay phase starts at a different step; the stable phase is unaffected"]
    batch_size: int
    gradient_accumulation: int
    optimizer: OptimizerName
    learning_rate: float
    warmup: int | None
    weight_decay: Annotated[float, "from here on"]
    grad_clip: Annotated[float, "from here on"]
    seed: int
    dtype: Dtype
    compile: Compile
    device: Device
    eval_interval: int
    eval_tokens: Annotated[int, "held-out losses are measured on different text from here on"]
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
