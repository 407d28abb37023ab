"""`preset: auto`: the sizes of a new model by its corpus, its time and the machine, and the settings of its runs by its sizes.

The sizes are chosen once, for a model that several runs train, and are kept in it. The settings depend on nothing but the
sizes, so every run of a model uses the same, on every machine. The figures below are all of the recipe.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ..model.config import GPT2Config
from .optim.optimizers import OptimizerName

MINUTES = 10.0  # the default time limit: leaves room for the rest of a job of 15 minutes
RUNS = 4  # a model is sized for so many runs, because a schedule repeats them

# (bytes of text, entries of the tokenizer that is trained on it): the last row with at most that much text applies.
_VOCABULARIES = (
    (0, 512), (50_000, 1024), (2_000_000, 4096), (20_000_000, 8192), (200_000_000, 16384), (2_000_000_000, 32768),
)  # fmt: skip
LARGE_CORPUS = _VOCABULARIES[-1][0]  # no larger corpus gets a larger vocabulary
# (layers, width, block size, sequences per step), from the smallest to the largest model.
_LADDER = (
    (2, 128, 128, 16), (3, 192, 128, 16), (4, 256, 128, 16), (5, 320, 128, 16), (6, 384, 128, 16), (8, 512, 256, 16),
    (10, 640, 256, 32), (12, 768, 512, 32), (16, 1024, 512, 64), (24, 1024, 1024, 64),
)  # fmt: skip
_PARAMETERS_PER_BYTE = 12.0  # at most so many parameters in the blocks for each byte of the training text
_TOKENS_PER_PARAMETER = 1.0  # at least so many tokens, in all runs together, for each parameter in the blocks
# (epochs over all runs, dropout): the last row with at most so many epochs applies.
_DROPOUTS = ((0, 0.0), (4, 0.1), (40, 0.2))
_RATES: Mapping[OptimizerName, float] = {"muon": 1e-2, "adamw": 1e-3}  # at a width of 256; ~ 1 / sqrt(width)
_WEIGHT_DECAY, _DECAY, _WARMUP = 0.1, 0.3, 40
_SMALLEST_BLOCK = 8


class Shape(Protocol):
    """The sizes of a model of any architecture."""

    @property
    def n_layer(self) -> int: ...
    @property
    def n_embd(self) -> int: ...
    @property
    def block_size(self) -> int: ...


@dataclass(frozen=True)
class Corpus:
    """The counts of a tokenized corpus. `text_bytes` is the UTF-8 length of the training text."""

    text_bytes: int
    train_tokens: int
    val_tokens: int
    vocab_size: int


@dataclass(frozen=True)
class Sizes:
    """The sizes of a new model, and the steps that its runs are expected to take together."""

    n_layer: int
    n_head: int
    n_embd: int
    block_size: int
    dropout: float
    steps: int


def vocabulary_size(text_bytes: int) -> int:
    """The number of entries of a tokenizer that fits a corpus of `text_bytes`."""
    return next(size for least, size in reversed(_VOCABULARIES) if text_bytes >= least)


def choose_sizes(
    corpus: Corpus, minutes: float, flops_per_s: float, given: Mapping[str, Any], n_embd_multiple: int = 1
) -> Sizes:
    """The largest model of the ladder that `corpus` and the FLOPs of `RUNS` runs of `minutes` can train.

    `given` are the sizes that the user has set, by name; the others are chosen around them. `n_embd` is a multiple of
    `n_embd_multiple`. A larger corpus or more time never gives a smaller model.
    """
    flops = flops_per_s * 60 * minutes * RUNS
    most = min(_PARAMETERS_PER_BYTE * corpus.text_bytes, math.sqrt(flops / 6 / _TOKENS_PER_PARAMETER))
    shapes = [_shape(rung, given, n_embd_multiple) for rung in _LADDER]
    allowed = [number for number, shape in enumerate(shapes) if _block_parameters(shape) <= most]
    number = max(allowed, default=0)
    layers, heads, width = shapes[number]
    block = given.get("block_size") or _fitting_block(_LADDER[number][2], min(corpus.train_tokens, corpus.val_tokens))
    config = GPT2Config(corpus.vocab_size, block, layers, heads, width)
    tokens = flops / config.flops_per_token()
    dropout = given.get("dropout")
    if dropout is None:
        dropout = next(rate for least, rate in reversed(_DROPOUTS) if tokens / corpus.train_tokens >= least)
    return Sizes(layers, heads, width, block, dropout, max(1, round(tokens / (_sequences(config) * block))))


def run_settings(shape: Shape, optimizer: OptimizerName, max_iters: int | None) -> dict[str, Any]:
    """The settings of every run of a model of this `shape`, by name: what was not set by the user."""
    return {
        "batch_size": _sequences(shape),
        "gradient_accumulation": 1,
        "learning_rate": float(f"{_RATES[optimizer] * math.sqrt(256 / shape.n_embd):.1e}"),
        "weight_decay": _WEIGHT_DECAY,
        "decay": _DECAY,
        "warmup": _WARMUP if max_iters is None else min(_WARMUP, max_iters // 20),
    }


def _sequences(shape: Shape) -> int:
    """Sequences per step: those of the largest model of the ladder that is not larger than this one."""
    parameters = 12 * shape.n_layer * shape.n_embd**2
    return max((count for layers, width, _, count in _LADDER if 12 * layers * width**2 <= parameters), default=_LADDER[0][3])


def _shape(rung: tuple[int, int, int, int], given: Mapping[str, Any], n_embd_multiple: int) -> tuple[int, int, int]:
    """Layers, heads and width of a rung of the ladder, around the sizes that were `given`."""
    layers, heads, width = given.get("n_layer") or rung[0], given.get("n_head"), given.get("n_embd")
    if width is None:
        multiple = math.lcm(heads or 1, n_embd_multiple)
        width = max(multiple, round(rung[1] / multiple) * multiple)
    return layers, heads or _heads(width), width


def _heads(width: int) -> int:
    """Heads of a width of 64 or more, which divide `width`."""
    return next(heads for heads in range(max(1, width // 64), 0, -1) if width % heads == 0)


def _block_parameters(shape: tuple[int, int, int]) -> int:
    layers, _, width = shape
    return 12 * layers * width**2


def _fitting_block(block_size: int, tokens: int) -> int:
    """`block_size`, or half of it and so on where the smaller split has only `tokens`."""
    while block_size > _SMALLEST_BLOCK and block_size >= tokens:
        block_size //= 2
    return block_size
