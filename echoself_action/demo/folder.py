"""Writes the demo of a model: index.html and the model's files, which the page loads from beside itself.

The page is one file: style and scripts are inside it, and its Content-Security-Policy allows these by their hashes. Scripts run
transformers.js, which is loaded from a CDN by the checksums in cdn.json (tests/demo/pin_cdn.py computes them).
"""

import base64
import hashlib
import json
import os
import shutil
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, Template
from markupsafe import Markup

from ..checkpoint.atomic import TEMPORARY_PREFIX, new_folder, remove_folder
from ..checkpoint.metadata import ExportFacts
from ..checkpoint.model_folder import CONFIG_FILE, GENERATION_FILE, TOKENIZER_FILES, ModelFolder, element_count, sha256
from ..errors import CheckpointError
from ..evaluation.prompts import fallback_prompt
from ..formats.registry import Exported
from ..formats.runtimes.runtime_formats import ONNX_FP32, ONNX_INT8
from ..markdown import number

MODEL = "model"  # the folder with the model's files
# bytes. The page needs 3.3 times its weights and 330 MB of memory (Chromium 150), and a phone's browser has 1 to 2 GB for it.
LARGEST_FP32_BY_DEFAULT = 300_000_000
_NAMES = {ONNX_FP32: "fp32", ONNX_INT8: "int8"}
_HUB_FILES = "https://*.hf.co"  # where a static Space sends a browser for large files


def write_demo(folder: ModelFolder, onnx: Exported, to: Path, repo_id: str = "", repo_url: str = "") -> Path:
    """Write the demo of `folder` to the folder `to`, which is replaced as a whole; returns `to`.

    `onnx` are the model's ONNX files, and `repo_url` links to the model's page, "" for none. The same model gives the same
    bytes. Raises CheckpointError if the folder can't be written.
    """
    weights = {name: onnx.files[name] for name in (ONNX_FP32, ONNX_INT8) if name in onnx.files}
    if ONNX_FP32 in weights and ONNX_INT8 in weights and weights[ONNX_FP32].stat().st_size > LARGEST_FP32_BY_DEFAULT:
        weights = {name: weights[name] for name in (ONNX_INT8, ONNX_FP32)}  # the first one is the default
    files = {name: folder.path / name for name in (CONFIG_FILE, GENERATION_FILE, *TOKENIZER_FILES)}
    files = {name: path for name, path in files.items() if path.is_file()} | weights
    aside = to.with_name(f"{TEMPORARY_PREFIX}{to.name}")
    try:
        shutil.rmtree(aside, ignore_errors=True)  # of a killed run
        with new_folder(aside) as new:
            for name, path in files.items():
                (new / MODEL / name).parent.mkdir(parents=True, exist_ok=True)
                (_link_or_copy if name in weights else shutil.copyfile)(path, new / MODEL / name)
            (new / "index.html").write_text(_page(folder, files, tuple(weights), repo_id, repo_url), encoding="utf-8")
        if to.exists():
            remove_folder(to)
        aside.rename(to)
    except OSError as error:
        raise CheckpointError(
            f"The demo could not be written to {to}: {error}.", "Free disk space, or make the folder writable."
        ) from error
    return to


def _link_or_copy(path: Path, to: Path) -> None:
    """A hard link, because a model may be large: exports are replaced, never changed in place."""
    try:
        os.link(path, to)
    except OSError:  # another file system
        shutil.copyfile(path, to)


def _page(folder: ModelFolder, files: dict[str, Path], weights: tuple[str, ...], repo_id: str, repo_url: str) -> str:
    sizes = {name: path.stat().st_size for name, path in files.items()}
    exports = {one.file: one for one in (folder.metadata and folder.metadata.exports) or ()}
    style, script, worker = (_source(name) for name in ("style.css", "page.js", "worker.js"))
    sample = folder.metadata.sample if folder.metadata else None
    return _template().render(
        name=repo_id or folder.path.name,
        architecture=folder.architecture.display_name,
        url=repo_url,
        prompt=sample.prompt if sample else fallback_prompt(folder.path),
        policy=_policy(script, style),
        style=Markup(style),  # noqa: S704 (our own file)
        script=Markup(script),  # noqa: S704
        worker=Markup(worker),  # noqa: S704
        weights={name: {"label": _label(name, sizes[name], exports.get(name))} for name in weights},
        figures=_figures(folder),
        notes=_notes(folder, [exports[name] for name in weights if name in exports]),
        facts={
            "context": folder.config.block_size,
            "weights": {name: {"size": sizes[name]} for name in weights},
            "files": {
                name: {"size": sizes[name]} | ({"sha256": sha256(files[name])} if name in weights else {}) for name in files
            },
            "runtime": runtime_files(),
        },
    )


def runtime_files() -> list[dict[str, Any]]:
    """The files of transformers.js and ONNX Runtime: `url`, `integrity`, `type` and `size` in bytes of each."""
    files: list[dict[str, Any]] = json.loads(_source("cdn.json"))
    return files


def _policy(script: str, style: str) -> str:
    """The Content-Security-Policy: our scripts, files beside the page, and those files of the CDN. The worker inherits it."""
    sources = ["'self'", "blob:", _HUB_FILES, *(file["url"] for file in runtime_files())]
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_hash(script)}' blob: 'wasm-unsafe-eval'",
            "worker-src blob:",
            f"connect-src {' '.join(sources)}",
            f"style-src '{_hash(style)}'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _label(name: str, size: int, facts: ExportFacts | None) -> str:
    agreement = f", {100 * facts.argmax_agreement:.4g}% agreement" if facts else ""
    return f"{_NAMES[name]}, {size / 1e6:,.1f} MB{agreement}"


def _figures(folder: ModelFolder) -> list[tuple[str, str, str]]:
    """(label, value, unit) of what describes the model."""
    metadata = folder.metadata
    figures = [
        ("Bits per byte", number(metadata.bits_per_byte) if metadata else "", ""),
        ("Parameters", f"{element_count(folder.config):,}", ""),
        ("Step", f"{metadata.step:,}" if metadata and metadata.step else "", ""),
        ("Context", f"{folder.config.block_size:,}", "tokens"),
    ]
    return [figure for figure in figures if figure[1]]


def _notes(folder: ModelFolder, exports: list[ExportFacts]) -> list[str]:
    loss = "Bits per byte are the loss on held-out text: less is better."
    return [loss] * bool(folder.metadata and folder.metadata.bits_per_byte) + [
        f"{facts.file} in {facts.runtime}: max absolute logit difference {facts.max_abs_diff:.2g}, top-1 agreement "
        f"{100 * facts.argmax_agreement:.4g}% at {facts.positions:,} positions, the same token ids for {facts.texts:,} texts."
        for facts in exports
    ]


def _source(name: str) -> str:
    return (resources.files(__package__) / "page" / name).read_text(encoding="utf-8")


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_source("index.html"))
