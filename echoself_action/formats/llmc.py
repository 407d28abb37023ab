"""Reads the `.bin` of llm.c (github.com/karpathy/llm.c): a header of 256 int32, then the tensors of a GPT-2 in a fixed order.

Its forward pass is GPT-2's, with the tanh approximation of GELU and an epsilon of 1e-5. Matrices are stored as in nn.Linear,
and each kind of tensor is one array of all layers. The token embedding is padded to a multiple of 128 rows. The softmax is over
`vocab_size` tokens, without the padding, so the padding is cut.
"""

import mmap
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from ..checkpoint.arrays import BFLOAT16, Array
from ..checkpoint.gpt2_config import TOKENS
from ..model.config import GPT2Config
from .gpt2_tensors import logits, shapes, transposed
from .imported_model import NOTHING_GIVEN, Given, ImportedModel, check_weights
from .registry import LLMC_MAGIC, LLMC_MAGICS, Origin
from .torch_file.archive import fingerprint, refuse, refuse_damaged, release

_HEADER = 256  # int32 numbers
_FLOAT32, _BFLOAT16 = 3, 5  # versions; 1, 2 and 4 are of spring 2024, in other orders and without padding
_SIZES = ("block_size", "vocab_size", "n_layer", "n_head", "n_embd")  # of the header, from the third number on
_TENSORS = tuple(
    f"{module}.{kind}"
    for module in ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj")
    for kind in ("weight", "bias")
)
_STEP = re.compile(r"model_(\d{1,8})\.bin")
_USE_MODEL = "Give the model: gpt2_124M.bin, or model_<step>.bin of a run."
_EXPORT_AGAIN = "Export it again with a newer train_gpt2.py of llm.c, which writes the versions 3 and 5."
_MOST_LAYERS = 10_000


@dataclass(frozen=True)
class _File:
    """A mapped file, with the tensors under the names of nanoGPT."""

    path: Path
    mapped: mmap.mmap
    weights: Mapping[str, Array]

    def refuse(self, why: str, *hint: str) -> NoReturn:
        refuse(self.path, why, *hint)

    def release(self) -> None:
        release(self.mapped)


def read(path: Path, given: Given = NOTHING_GIVEN) -> ImportedModel:
    """Convert the file at `path`. It records everything, so `given` can only agree.

    Raises CheckpointError if it is another file of llm.c, is incomplete, contradicts itself, or contains NaN or infinity.
    """
    size = path.stat().st_size
    if size < 4 * _HEADER:
        refuse_damaged(path, f"it has {size:,} bytes, less than the header of llm.c")
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY)
    header = [int(number) for number in np.frombuffer(mapped, "<i4", _HEADER)]
    if header[0] != LLMC_MAGIC:
        refuse(path, f"is of llm.c, but holds {LLMC_MAGICS.get(header[0], 'no model')}", _USE_MODEL)
    config, rows = _config(path, header)
    for name, value in (("n_head", given.n_head), ("activation", given.activation)):
        if value not in (None, getattr(config, name)):
            refuse(path, f"has {name}={getattr(config, name)}, but {name}: {value} was given", f"Leave {name} out.")
    whole = _whole_arrays(path, mapped, config, rows, np.dtype("<f4") if header[1] == _FLOAT32 else BFLOAT16)
    unpadded = {TOKENS: whole[TOKENS][: config.vocab_size]}
    layers = {f"transformer.h.{i}.{name}": whole[name][i] for i in range(config.n_layer) for name in _TENSORS}
    opened = _File(path, mapped, {**whole, **unpadded, **layers})
    weights = check_weights(opened, {name: opened.weights[name] for name in shapes(config)}, shapes(config), "its header")
    step, remarks = _step(path)
    if rows > config.vocab_size:
        remarks += (f"the {rows - config.vocab_size} padding rows of its token embedding were cut: llm.c does not use them",)
    return ImportedModel(
        Origin(path, "llm.c", fingerprint(mapped), release=opened.release),
        config,
        transposed(weights),
        partial(logits, config, weights, True),
        step=step,
        remarks=remarks,
    )


def _config(path: Path, header: list[int]) -> tuple[GPT2Config, int]:
    """The config, and the number of rows of the padded token embedding."""
    version, sizes, rows = header[1], dict(zip(_SIZES, header[2:], strict=False)), header[7]
    if version not in (_FLOAT32, _BFLOAT16):
        refuse(path, f"has version {version} of llm.c's format, and only 3 (fp32) and 5 (bf16) are supported", _EXPORT_AGAIN)
    if version == _FLOAT32 and rows == 0:
        refuse(path, "has version 3 of llm.c's format as of April 2024, without a padded vocabulary", _EXPORT_AGAIN)
    if (
        min(sizes.values()) < 1
        or sizes["n_layer"] > _MOST_LAYERS
        or rows < sizes["vocab_size"]
        or sizes["n_embd"] % sizes["n_head"]
    ):
        stated = ", ".join(f"{name}={size}" for name, size in sizes.items())
        refuse(path, f"has an invalid header ({stated}, padded to {rows})", "Download or copy it again.")
    return GPT2Config(**sizes, dropout=0.0, bias=True, activation="gelu_new"), rows


def _whole_arrays(path: Path, mapped: mmap.mmap, config: GPT2Config, rows: int, dtype: np.dtype[Any]) -> dict[str, Array]:
    """The arrays of the file in its order; those of the blocks have the layer as their first dimension."""
    width, layers = config.n_embd, config.n_layer
    wide = {"attn.c_attn.weight": (3 * width, width), "attn.c_attn.bias": (3 * width,), "attn.c_proj.weight": (width, width)}
    wide |= {"mlp.c_fc.weight": (4 * width, width), "mlp.c_fc.bias": (4 * width,), "mlp.c_proj.weight": (width, 4 * width)}
    expected: dict[str, tuple[int, ...]] = {TOKENS: (rows, width), "transformer.wpe.weight": (config.block_size, width)}
    expected |= {name: (layers, *wide.get(name, (width,))) for name in _TENSORS}
    expected |= {"transformer.ln_f.weight": (width,), "transformer.ln_f.bias": (width,)}
    ends = [4 * _HEADER]
    for shape in expected.values():
        ends.append(ends[-1] + prod(shape) * dtype.itemsize)
    if ends[-1] != len(mapped):  # checked before anything is built for each layer
        refuse_damaged(path, f"it has {len(mapped):,} bytes, and its header describes a model of {ends[-1]:,} bytes")
    starts = [start for start, _ in pairwise(ends)]
    return {
        name: np.ndarray(shape, dtype, mapped, start) for start, (name, shape) in zip(starts, expected.items(), strict=True)
    }


def _step(path: Path) -> tuple[int, tuple[str, ...]]:
    """The step in the file's name, and remarks on it and on the optimizer."""
    match = _STEP.fullmatch(path.name)
    if not match:
        return 0, ("it records no step: steps count from 0",)
    step = int(match[1])
    remarks = (f"step {step} is from its name, because llm.c does not record it in the file",)
    states = sorted(path.parent.glob(f"state_{match[1]}_*.bin"))
    return step, remarks + ((f"optimizer state not imported: that of llm.c in {states[0].name}",) if states else ())
