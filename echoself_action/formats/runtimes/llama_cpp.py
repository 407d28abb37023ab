"""Checks the GGUF files of a model in llama.cpp: every tensor, the logits, and the token ids.

llama.cpp computes the activation function of GPT-2 as the tanh approximation of GELU, from a table of half-precision values. No
file can give its model's logits there up to rounding in fp32. So these are checked instead:

- Its tensors are those of the model, in the type of the file, bit for bit.
- With the values of GELU that llama.cpp computed, our model has the logits that llama.cpp computes from the F32 file in fp32,
  up to rounding. So every tensor has the role there that it has in the model. And these values are GELU, in half precision.
- With llama.cpp's default settings (keys and values in half precision, flash attention), the logits of each file are within its
  bounds of those of the model. This is what users get, and what is published as its facts.
"""

import json
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ... import libraries
from ...checkpoint.metadata import ExportFacts
from ...checkpoint.model_folder import ModelFolder
from ...checkpoint.weights import load_model
from ...errors import CheckpointError
from ...model.gpt2 import GPT2, Block
from ..registry import Exported
from .export_parity import Bounds, Reference, agreement, facts
from .gguf_export import gguf_file, tensor_names
from .llama_cpp_worker import EXACT_IDS, EXACT_LOGITS, GELUS, IDS_OF_TEXTS, LOGITS, TEXTS, TOKEN_IDS
from .runtime_worker import run_worker

_PACKAGE = "xllamacpp"
_BLOCKS = "transformer.h."
_EXACT = gguf_file("F32")
_EXACT_DIFF = 1e-4  # of logits up to 10, as far as rounding in fp32 goes; up to 2.4e-5 in trained models with logits up to 23
_GELU_DIFF = 2e-3  # relative to the input, at least 1: two roundings to half precision, of 2^-11 each, and the slope of GELU
# How far the logits of a file may be from those of the model: four times as far as rounding the weights alone takes them, in
# F32 to half precision. In six models (untrained to overtrained; bytes, bpe:512, bpe:4096; 2 to 4 layers; both GELUs) they
# are 0.3 to 1.2 times as far in F32, up to 0.0075; 0.9 to 2.4 times in F16, up to 0.021; 1.3 to 1.8 times in Q8_0, up to
# 0.42. Except for ties the most likely tokens are the same. That each tensor is right does not depend on this: it refuses a
# runtime that computes something else. The values are the least bounds, for models that rounding hardly changes.
_OF_ROUNDED_WEIGHTS = 4
BOUNDS = {
    gguf_file("F32"): Bounds(max_abs_diff=0.02, argmax_agreement=0.99, tie=0.01),
    gguf_file("F16"): Bounds(max_abs_diff=0.02, argmax_agreement=0.99, tie=0.02),
    gguf_file("Q8_0"): Bounds(max_abs_diff=0.1, argmax_agreement=0.98, tie=0.1),
}


def check(folder: ModelFolder, exported: Exported) -> tuple[ExportFacts, ...]:
    """Compare each GGUF file with `folder`; see `Runtime`."""
    runtime = f"{_PACKAGE} {version(_PACKAGE)} (llama.cpp)"
    reference = Reference(folder)
    files = {name: path for name, path in exported.files.items() if name in BOUNDS}
    return tuple(_check_file(reference, name, path, runtime) for name, path in files.items())


def _check_file(reference: Reference, name: str, path: Path, runtime: str) -> ExportFacts:
    with TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        np.save(scratch / TOKEN_IDS, reference.token_ids)
        (scratch / TEXTS).write_text(json.dumps(reference.texts))
        if name == _EXACT:
            np.save(scratch / EXACT_IDS, reference.token_ids[[0, -1]])
        run_worker("llama_cpp_worker", [str(path), temporary], path, "llama.cpp", "gguf")
        logits = np.load(scratch / LOGITS)
        exact = (np.load(scratch / EXACT_LOGITS), np.load(scratch / GELUS)) if name == _EXACT else None
        ids_of_texts = json.loads((scratch / IDS_OF_TEXTS).read_bytes())
    notes: tuple[str, ...] = ()
    if exact:
        difference = _exact_difference(_load(reference.folder), reference.token_ids[[0, -1]], *exact, path)
        trained = "; this model was trained with the exact GELU" if reference.folder.config.activation == "gelu" else ""
        notes = (
            f"llama.cpp computes the tanh approximation of GELU, from a table of half-precision values{trained}. With these "
            f"values, in fp32, the logits differ by {difference:.1e} at most.",
        )
    model = _load(reference.folder)
    model.load_state_dict(_check_tensors(model, path, reference.folder.path))
    bounds = _bounds(model, reference, BOUNDS[name])
    return facts(reference, path, name, "gguf", runtime, logits, ids_of_texts, bounds, notes)


def _load(folder: ModelFolder) -> GPT2:
    model = load_model(folder).eval()
    assert isinstance(model, GPT2)  # the only architecture with an exporter
    return model


def _check_tensors(model: GPT2, path: Path, folder: Path) -> dict[str, Tensor]:
    """The values in the file, by their names in the model: its own, rounded to the type of the file.

    Raises CheckpointError if one of them differs from that.
    """
    gguf = libraries.gguf
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    state, rounded = model.state_dict(), {}
    for name, source in tensor_names(model.config):
        tensor = stored[name]
        turned = source is not None and source.startswith(_BLOCKS) and len(tensor.shape) > 1  # llama.cpp's are (out, in)
        expected = np.zeros(tensor.shape, np.float32) if source is None else state[source].numpy()
        values = np.ascontiguousarray(expected.T) if turned else expected
        if not np.array_equal(gguf.quants.quantize(values, tensor.tensor_type), tensor.data):
            raise CheckpointError(
                f"{path} has other values in {name} than {folder} has in {source or 'a bias of zeros'}. Nothing was published.",
                "Leave gguf out of formats, and report this as a bug.",
            )
        if source is not None:
            found = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            rounded[source] = torch.tensor(found.T if turned else found)
    return rounded


def _bounds(model: GPT2, reference: Reference, least: Bounds) -> Bounds:
    """For a file with the weights of `model`: `least`, or more for a model that rounding its weights changes more.

    llama.cpp also rounds the inputs of a product to the type of its matrix, and keys, values and GELU to half precision.
    """
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half())
        logits = model.logits(torch.from_numpy(reference.token_ids)).numpy()
    difference = float(np.abs(reference.logits - logits).max())
    disagreement = 1 - agreement(reference.logits, logits, least.tie)
    return replace(
        least,
        max_abs_diff=max(least.max_abs_diff, _OF_ROUNDED_WEIGHTS * difference),
        argmax_agreement=min(least.argmax_agreement, 1 - _OF_ROUNDED_WEIGHTS * disagreement),
    )


def _exact_difference(
    model: GPT2, ids: npt.NDArray[np.int64], logits: npt.NDArray[np.float32], gelus: npt.NDArray[np.float32], path: Path
) -> float:
    """The largest difference of a logit, with the values of GELU that llama.cpp computed in its place."""
    given = [_GivenGelu(torch.from_numpy(values)) for values in gelus]
    for block, gelu in zip(model.transformer.h, given, strict=True):
        cast(Block, block).mlp.activation = gelu
    with torch.no_grad():
        difference = float(np.abs(model.logits(torch.from_numpy(ids)).numpy() - logits).max())
    largest = max(_EXACT_DIFF, _EXACT_DIFF / 10 * float(np.abs(logits).max()))
    for what, found, allowed in (
        ("logits", difference, largest),
        ("values of GELU", max(one.difference for one in given), _GELU_DIFF),
    ):
        if not found <= allowed:  # also refuses NaN
            raise CheckpointError(
                f"{path} has other {what} in llama.cpp than its model: max |delta| {found:.3g} (maximum {allowed:.3g}). "
                "Nothing was published.",
                "Leave gguf out of formats, and report this as a bug.",
            )
    return difference


class _GivenGelu:
    """Returns `values` instead of GELU, and keeps how far they are from it, relative to the input."""

    def __init__(self, values: Tensor) -> None:
        self.values = values
        self.difference = 0.0

    def __call__(self, x: Tensor) -> Tensor:
        difference = (self.values - F.gelu(x, approximate="tanh")).abs() / x.abs().clamp(min=1)
        self.difference = float(difference.max())
        return self.values
