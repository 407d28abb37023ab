"""Checks the ONNX files of a model in ONNX Runtime: every tensor, the logits, and the token ids.

The logits are computed in one call, and in several with the key-value cache; the facts are of the worse of the two.
"""

import json
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from .. import libraries
from ..checkpoint.metadata import ExportFacts
from ..checkpoint.model_folder import TOKENIZER_FILES, ModelFolder
from ..errors import CheckpointError
from .export_parity import Bounds, Reference, facts
from .onnx_export import FP32, open_weights, stored_weight
from .onnx_worker import CACHED_LOGITS, IDS_OF_TEXTS, LOGITS, TEXTS, TOKEN_IDS
from .registry import Exported
from .runtime_worker import run_worker

_PACKAGE = "onnxruntime"
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


def _bounds(name: str, expected: npt.NDArray[np.float32]) -> Bounds:
    """Rounding in fp32 is relative to the logits, and those of large models are large.

    In 8 bits, six trained models (bytes, bpe:512 to bpe:4096, gpt2; 2 to 4 layers) differ by 0.05 to 0.35 standard deviations
    of the logits, agree at 97.7 % to 99.1 % of the positions, and have up to 0.0004 bits per byte more. The bounds leave room
    for larger activations. That each tensor is right does not depend on them: they refuse a runtime that computes something
    else from it.
    """
    if name == FP32:
        return Bounds(max_abs_diff=max(1e-4, 1e-5 * float(np.abs(expected).max())), argmax_agreement=1)
    return Bounds(max_abs_diff=2 * float(expected.std()), argmax_agreement=0.9, tie=0.1)


def _check_file(reference: Reference, name: str, path: Path, runtime: str) -> ExportFacts:
    with TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        np.save(scratch / TOKEN_IDS, reference.token_ids)
        (scratch / TEXTS).write_text(json.dumps(reference.texts))
        tokenizer = reference.folder.path / TOKENIZER_FILES[0]
        run_worker("onnx_worker", [str(path), str(tokenizer), temporary], path, "ONNX Runtime", "onnx")
        ids_of_texts = json.loads((scratch / IDS_OF_TEXTS).read_bytes())
        computed = [np.load(scratch / logits) for logits in (LOGITS, CACHED_LOGITS)]
    _check_tensors(reference.folder, path)
    expected = reference.logits
    worse = max(computed, key=lambda logits: np.nan_to_num(np.abs(logits - expected).max(), nan=np.inf))
    notes = (_SPACES,) if _cuts_at_spaces(tokenizer) else ()
    return facts(reference, path, name, "onnx", runtime, worse, ids_of_texts, _bounds(name, expected), notes)


def _cuts_at_spaces(tokenizer: Path) -> bool:
    """Whether the tokenizer.json cuts a text at spaces, before it looks for its tokens in it."""
    cut = json.loads(tokenizer.read_bytes()).get("pre_tokenizer") or {}
    return any(
        one["type"] in ("Whitespace", "WhitespaceSplit", "BertPreTokenizer")
        or (one["type"] == "ByteLevel" and one.get("use_regex", True))
        or (one["type"] == "Split" and r"\s" in one["pattern"].get("Regex", "").replace(r"[\s\S]", ""))
        for one in cut.get("pretokenizers", [cut] if cut else [])
    )


def _check_tensors(folder: ModelFolder, path: Path) -> None:
    """The tensors of the file are those of the model: exactly, or up to half a step of their scale in 8 bits."""
    tensors = {one.name: one for one in libraries.onnx.load(path).graph.initializer}
    with open_weights(folder) as weights:
        for name in folder.architecture.config.shapes(folder.config):
            values, step = stored_weight(tensors, name)
            if not (np.abs(values - weights(name)) <= 0.501 * step).all():
                raise CheckpointError(
                    f"{path} has other values in {name} than {folder.path}. Nothing was published.",
                    "Leave onnx out of formats, and report this as a bug.",
                )
