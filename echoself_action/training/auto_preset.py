"""`preset: auto`: the sizes of a new model by its corpus, its time and the machine, and the settings of its runs by its sizes.

The sizes are chosen once, for a model that several runs train, and are kept in it. The settings depend on nothing but the
sizes, so every run of a model uses the same, on every machine. The figures below are all of the recipe.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..model.config import GPT2Config
from .optim.optimizers import OptimizerName

MINUTES = 10.0  # the default time limit: leaves room for the rest of a job of 15 minutes
RUNS = 10  # a model is sized for so many runs, because a schedule repeats them

# (bytes of training text, entries of the tokenizer that is trained on it): the last row with at most that much text applies.
_VOCABULARIES = (
    (0, 1024), (60_000, 4096), (20_000_000, 8192), (200_000_000, 16384), (2_000_000_000, 32768),
)  # fmt: skip
LARGE_CORPUS = _VOCABULARIES[-1][0]  # no larger corpus gets a larger vocabulary
# (layers, width, least bytes of training text, least tokens over all runs for each parameter in the blocks). The largest model
# that has both is chosen, else the first.
_MODELS = (
    (2, 128, 0, 0), (4, 128, 0, 2), (4, 192, 60_000, 2), (4, 256, 400_000, 2), (6, 384, 400_000, 30), (6, 384, 3_000_000, 10),
    (8, 512, 10_000_000, 10), (10, 640, 20_000_000, 10), (12, 768, 40_000_000, 10), (16, 1024, 200_000_000, 10),
    (24, 1024, 400_000_000, 10),
)  # fmt: skip
_BLOCKS = ((0, 128), (3_000_000, 256), (40_000_000, 512), (400_000_000, 1024))  # (bytes of training text, block size)
_TOKENS_PER_STEP = ((0, 2048), (20_000_000, 8192), (40_000_000, 16384), (80_000_000, 32768))  # by parameters in the blocks
# Noise of the input by parameters in the blocks. It keeps the loss low for more epochs than dropout does (docs/recipe.md).
_INPUT_NOISE = ((0, 0.2), (2_000_000, 0.1), (20_000_000, 0.0))
_RATES: Mapping[OptimizerName, float] = {"muon": 1e-2, "adamw": 1e-3}  # at a width of 256; ~ 1 / sqrt(width)
_WEIGHT_DECAY, _DECAY, _WARMUP = 0.3, 0.3, 20
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
    return int(_row(_VOCABULARIES, text_bytes))


def choose_sizes(
    corpus: Corpus, minutes: float, flops_per_s: float, given: Mapping[str, Any], n_embd_multiple: int = 1
) -> Sizes:
    """The largest model that `corpus` is enough for, and the FLOPs of `RUNS` runs of `minutes`.

    `given` are the sizes that the user has set, by name; the others are chosen around them. `n_embd` is a multiple of
    `n_embd_multiple`. A larger corpus or more time never gives a smaller model.
    """
    flops = flops_per_s * 60 * minutes * RUNS
    shapes = [_shape(layers, width, given, n_embd_multiple) for layers, width, _, _ in _MODELS]
    allowed = [
        shape
        for shape, (_, _, text_bytes, tokens_per_parameter) in zip(shapes, _MODELS, strict=True)
        if corpus.text_bytes >= text_bytes and flops / 6 / _parameters(*shape[:2]) ** 2 >= tokens_per_parameter
    ]
    layers, width, heads = max(allowed, key=lambda shape: _parameters(*shape[:2]), default=shapes[0])
    block = given.get("block_size") or _fitting_block(
        int(_row(_BLOCKS, corpus.text_bytes)), min(corpus.train_tokens, corpus.val_tokens)
    )
    config = GPT2Config(corpus.vocab_size, block, layers, heads, width)
    tokens = flops / config.flops_per_token()
    return Sizes(layers, heads, width, block, given.get("dropout", 0.0), max(1, round(tokens / (_sequences(config) * block))))


def run_settings(shape: Shape, optimizer: OptimizerName, max_iters: int | None) -> dict[str, Any]:
    """The settings of every run of a model of this `shape`, by name: what was not set by the user."""
    return {
        "batch_size": _sequences(shape),
        "gradient_accumulation": 1,
        "learning_rate": float(f"{_RATES[optimizer] * math.sqrt(256 / shape.n_embd):.1e}"),
        "weight_decay": _WEIGHT_DECAY,
        "input_noise": _row(_INPUT_NOISE, _parameters(shape.n_layer, shape.n_embd)),
        "decay": _DECAY,
        "warmup": _WARMUP if max_iters is None else min(_WARMUP, max_iters // 20),
    }


def _row(table: Sequence[tuple[float, float]], value: float) -> float:
    """The second column of the last row of `table` whose first column is at most `value`."""
    return next(result for least, result in reversed(table) if value >= least)


def _parameters(layers: int, width: int) -> int:
    """The parameters of the matrices in the blocks."""
    return 12 * layers * width**2


def _sequences(shape: Shape) -> int:
    """Sequences per step."""
    return max(1, int(_row(_TOKENS_PER_STEP, _parameters(shape.n_layer, shape.n_embd))) // shape.block_size)


def _shape(layers: int, width: int, given: Mapping[str, Any], n_embd_multiple: int) -> tuple[int, int, int]:
    """Layers, width and heads of a model of the table, around the sizes that were `given`."""
    heads = given.get("n_head")
    if "n_embd" in given:
        width = given["n_embd"]
    else:
        multiple = math.lcm(heads or 1, n_embd_multiple)
        width = max(multiple, round(width / multiple) * multiple)
    return given.get("n_layer", layers), width, heads or _heads(width)


def _heads(width: int) -> int:
    """The number of heads, which divides `width`: of 64 entries or a little more, of 32 if `width` is at most 128."""
    size = 64 if width > 128 else 32
    return next(heads for heads in range(max(1, width // size), 0, -1) if width % heads == 0)


def _fitting_block(block_size: int, tokens: int) -> int:
    """`block_size`, or half of it and so on where the smaller split has only `tokens`."""
    while block_size > _SMALLEST_BLOCK and block_size >= tokens:
        block_size //= 2
    return block_size
