"""The settings of runs whose model was initialised from a pretrained one (`init_from`), in the first run and in all later ones.

Its weights know more than a small corpus can teach, so updates are smaller than those of random weights, and steps are short:
a pretrained model is usually large, and a run on a CPU must still take enough steps. The figures are in
docs/recipe-pretrained.md.
"""

import math
from typing import Any

from .auto_preset import Shape
from .optim.optimizers import OPTIMIZERS, OptimizerName

DROPOUT = 0.0  # GPT-2's own is 0.1, which learns less in a few hundred steps
_TOKENS_PER_STEP = 2048
_WARMUP = 10


def fine_tuning_rate(shape: Shape, optimizer: OptimizerName) -> dict[str, Any]:
    """The default peak rate, under every preset: that of the optimizer at a width of 256, ~ 1 / sqrt(width)."""
    return {"learning_rate": float(f"{OPTIMIZERS[optimizer].fine_tuning_rate * math.sqrt(256 / shape.n_embd):.1e}")}


def fine_tuning_steps(shape: Shape, max_iters: int | None) -> dict[str, Any]:
    """What `preset: auto` changes besides: the size of a step, and a warmup that short runs complete."""
    return {
        "batch_size": max(1, _TOKENS_PER_STEP // shape.block_size),
        "warmup": _WARMUP if max_iters is None else min(_WARMUP, max_iters // 20),
    }
