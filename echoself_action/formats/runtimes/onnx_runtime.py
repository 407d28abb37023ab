"""Checks the ONNX files of a model in ONNX Runtime: every tensor, the logits, and the token ids.

The logits are computed in one call, and in several with the key-value cache; the facts are of the worse of the two.
"""

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ... import libraries
from ...checkpoint.metadata import ExportFacts
from ...checkpoint.model_folder import TOKENIZER_FILES, ModelFolder
from ...checkpoint.weights import load_model
from ...errors import CheckpointError
from ...model.gpt2 import GPT2, Linear
from ..registry import Exported
from .export_parity import Bounds, Reference, facts
from .onnx_export import open_weights, stored_weight
from .onnx_worker import CACHED_LOGITS, IDS_OF_TEXTS, LOGITS, TEXTS, TOKEN_IDS
from .runtime_formats import ONNX_FP32
from .runtime_worker import run_worker

_PACKAGE = "onnxruntime"
_FP32_DIFF = 1e-4  # of logits up to 10
_TIE = 0.1  # standard deviations of the logits
# Of all characters below U+3400, and U+FEFF, these two have other ids with GPT-2's tokenizer (transformers.js 4.3.2).
_SPACES = (
    "In the regular expressions of JavaScript, U+FEFF is a space and U+0085 is not: a text with one of them may have other "
    "token ids in transformers.js."
)


def check(folder: ModelFolder, exported: Exported) -> tuple[ExportFacts, ...]:
    """Compare each file with `folder`; see `Runtime`."""
    runtime = f"{_PACKAGE} {version(_PACKAGE)}"
    reference = Reference(folder)
    return tuple(_check_file(reference, name, path, runtime) for name, path in exported.files.items())


def _check_file(reference: Reference, name: str, path: Path, runtime: str) -> ExportFacts:
    with TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        np.save(scratch / TOKEN_IDS, reference.token_ids)
        (scratch / TEXTS).write_text(json.dumps(reference.texts))
        tokenizer = reference.folder.path / TOKENIZER_FILES[0]
        run_worker("onnx_worker", [str(path), str(tokenizer), temporary], path, "ONNX Runtime", "onnx")
        ids_of_texts = json.loads((scratch / IDS_OF_TEXTS).read_bytes())
        computed = [np.load(scratch / logits) for logits in (LOGITS, CACHED_LOGITS)]
    tensors = {one.name: one for one in libraries.onnx.load(path).graph.initializer}
    _check_tensors(reference.folder, tensors, path)
    expected = reference.logits
    worse = max(computed, key=lambda logits: np.nan_to_num(np.abs(logits - expected).max(), nan=np.inf))
    bounds = _fp32_bounds(expected) if name == ONNX_FP32 else _int8_bounds(reference, tensors)
    notes = (_SPACES,) if _cuts_at_spaces(tokenizer) else ()
    return facts(reference, path, name, "onnx", runtime, worse, ids_of_texts, bounds, notes)


def _fp32_bounds(expected: npt.NDArray[np.float32]) -> Bounds:
    """Rounding is relative to the logits, and those of large models are large."""
    return Bounds(max_abs_diff=max(_FP32_DIFF, _FP32_DIFF / 10 * float(np.abs(expected).max())), argmax_agreement=1)


def _int8_bounds(reference: Reference, tensors: Mapping[str, Any]) -> Bounds:
    """Twice as far from our logits as ours are with the same rounding, of weights and of the inputs of matrices.

    Six trained models (bytes, bpe:512 to bpe:4096, gpt2; 2 to 4 layers) are 0.8 to 1.2 times as far. They differ by 0.05 to
    0.35 standard deviations of the logits, agree at 97.7 % to 99.1 % of the positions, and have up to 0.0006 bits per byte
    more. With weights of 8 bits and a sign, which saturate on a CPU with AVX2 and without VNNI, one of them is 4 times as far.
    """
    expected, rounded = reference.logits, _rounded_logits(reference, tensors)
    gap = expected.max(-1) - np.take_along_axis(expected, rounded.argmax(-1)[..., None], -1)[..., 0]
    agreement = float((gap <= _TIE * expected.std(-1)).mean())
    difference = float(np.abs(rounded - expected).max())
    return Bounds(max_abs_diff=max(_FP32_DIFF, 2 * difference), argmax_agreement=agreement - 0.05, tie=_TIE)


def _rounded_logits(reference: Reference, tensors: Mapping[str, Any]) -> npt.NDArray[np.float32]:
    """Our logits, with the weights of the file, and the inputs of matrices as DynamicQuantizeLinear rounds them."""
    model = load_model(reference.folder).eval()
    assert isinstance(model, GPT2)  # the only architecture with an exporter
    with torch.no_grad():
        for name, weight in model.state_dict().items():
            weight.copy_(torch.from_numpy(stored_weight(tensors, name)[0].copy()))
        for module in model.modules():
            if isinstance(module, Linear):
                module.register_forward_pre_hook(lambda _, given: (_rounded(given[0]),))
        hidden = _rounded(model.transformer(torch.from_numpy(reference.token_ids)))
        return F.linear(hidden, model.transformer.wte.weight).numpy()


def _rounded(x: Tensor) -> Tensor:
    least, largest = x.min().clamp(max=0), x.max().clamp(min=0)
    scale = (largest - least) / 255 if largest > least else torch.ones(())
    zero = (-least / scale).round()
    return (((x / scale).round() + zero).clamp(0, 255) - zero) * scale


def _cuts_at_spaces(tokenizer: Path) -> bool:
    """Whether the tokenizer.json cuts a text at spaces, before it looks for its tokens in it."""
    cut = json.loads(tokenizer.read_bytes()).get("pre_tokenizer") or {}
    return any(
        one["type"] in ("Whitespace", "WhitespaceSplit", "BertPreTokenizer")
        or (one["type"] == "ByteLevel" and one.get("use_regex", True))
        or (one["type"] == "Split" and r"\s" in one["pattern"].get("Regex", "").replace(r"[\s\S]", ""))
        for one in cut.get("pretokenizers", [cut] if cut else [])
    )


def _check_tensors(folder: ModelFolder, tensors: Mapping[str, Any], path: Path) -> None:
    """The tensors of the file are those of the model: exactly, or up to half a step of their scale in 8 bits."""
    with open_weights(folder) as weights:
        for name in folder.architecture.config.shapes(folder.config):
            values, step = stored_weight(tensors, name)
            if not (np.abs(values - weights(name)) <= 0.501 * step).all():
                raise CheckpointError(
                    f"{path} has other values in {name} than {folder.path}. Nothing was published.",
                    "Leave onnx out of formats, and report this as a bug.",
                )
