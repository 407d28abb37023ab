"""Checks the ONNX files of a model in ONNX Runtime: the logits in one call and with the key-value cache, and the token ids."""

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ..checkpoint.metadata import ExportFacts
from ..checkpoint.model_folder import TOKENIZER_FILES, ModelFolder
from ..errors import CheckpointError
from .export_parity import Bounds, Reference, facts
from .onnx_export import FP32, INT8
from .registry import Exported

_BOUNDS = {FP32: Bounds(max_abs_diff=1e-4, argmax_agreement=1), INT8: Bounds(max_abs_diff=2, argmax_agreement=0.8)}
_SECONDS = 1800


def check(folder: ModelFolder, exported: Exported) -> tuple[ExportFacts, ...]:
    """Compare each file with `folder`; see `Runtime`."""
    reference = Reference(folder)
    return tuple(_check_file(reference, name, path) for name, path in exported.files.items())


def _check_file(reference: Reference, name: str, path: Path) -> ExportFacts:
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        np.save(folder / "token_ids.npy", reference.token_ids)
        (folder / "texts.json").write_text(json.dumps(reference.texts))
        _run_worker(path, reference.folder.path / TOKENIZER_FILES[0], folder)
        ids_of_texts = json.loads((folder / "ids_of_texts.json").read_bytes())
        whole, cached = (
            facts(
                reference,
                path,
                name,
                "onnx",
                f"onnxruntime {version('onnxruntime')}",
                np.load(folder / f"{logits}.npy"),
                ids_of_texts,
                _BOUNDS[name],
            )
            for logits in ("logits", "logits_cached")
        )
    worst = {
        "max_abs_diff": max(whole.max_abs_diff, cached.max_abs_diff),
        "argmax_agreement": min(whole.argmax_agreement, cached.argmax_agreement),
    }
    return whole.model_copy(update=worst)


def _run_worker(model: Path, tokenizer: Path, folder: Path) -> None:
    command = [sys.executable, "-m", "echoself_action.formats.onnx_worker", str(model), str(tokenizer), str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_SECONDS)
        problem = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1] if done.returncode else ""
    except subprocess.TimeoutExpired:
        problem = f"no answer in {_SECONDS} s"
    if problem:
        raise CheckpointError(
            f"onnxruntime can't run {model}: {problem}. Nothing was published.",
            "Leave onnx out of formats, and report this as a bug.",
        )
