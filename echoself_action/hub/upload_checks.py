"""Checks files before an upload: each must be a regular file inside the model folder, of a plausible size, and its text must
not contain secrets."""

import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..checkpoint.model_folder import WEIGHTS_FILE, ModelFolder, element_count
from ..errors import CheckpointError
from .repo import Content, size_of
from .secrets import Find, find_secrets

MEGABYTE = 1_000_000
JSON_LIMIT, TOKENIZER_LIMIT, LOG_LIMIT = 10 * MEGABYTE, 50 * MEGABYTE, 50 * MEGABYTE
_TEXTS = (
    ".css",
    ".html",
    ".js",
    ".json",
    ".jsonl",
    ".md",
    ".mjs",
    ".py",
    ".txt",
    ".yaml",
    ".yml",
    "Modelfile",
    "template",
    "params",
)
_SHOWN = 20  # matches in a message


def files_to_upload(folder: ModelFolder, names: Iterable[str]) -> dict[str, Content]:
    """The existing files of `names`. Raises CheckpointError for one that must not be published."""
    root = folder.path.resolve()
    found: dict[str, Content] = {}
    for name in names:
        path = folder.path / name
        if not (path.is_symlink() or path.exists()):
            continue
        if not path.resolve().is_relative_to(root):
            raise CheckpointError(
                f"{path} is a symbolic link to {path.resolve()}, outside of the folder. Nothing was published.",
                "Publish a folder with regular files (cp -rL creates one).",
            )
        if not path.exists() or not stat.S_ISREG(path.stat().st_mode):
            raise CheckpointError(
                f"{path} is not a regular file. Nothing was published.", "Remove it, or replace it with the file."
            )
        limit, size = size_limit(folder, name), path.stat().st_size
        if size > limit:
            raise CheckpointError(
                f"{path} has {size:,} bytes, the maximum for this file is {limit:,}. Nothing was published.",
                "Its content does not match its name. Use a complete model folder.",
            )
        found[name] = path
    return found


def size_limit(folder: ModelFolder, name: str) -> int:
    """The maximum size in bytes of a file of a model folder; for weights, computed from the config."""
    if name.endswith(".safetensors"):
        weights = _largest_weights(folder)
        return weights if name == WEIGHTS_FILE else 3 * weights  # Adam has two values per weight
    return TOKENIZER_LIMIT if name == "tokenizer.json" else LOG_LIMIT if name.endswith(".jsonl") else JSON_LIMIT


def refuse_secrets(files: Mapping[str, Content]) -> None:
    """Raises CheckpointError if a text file contains what looks like a secret. The message never contains the secret."""
    finds = [(name, find) for name, content in files.items() for find in _finds(name, content)]
    if not finds:
        return
    shown = "; ".join(f"{name}, line {find.line}: {find.kind}" for name, find in finds[:_SHOWN])
    name, first = finds[0]
    place = files[name]
    raise CheckpointError(
        f"The files to publish contain what looks like a secret: {shown}. Nothing was published.",
        "If it is real, revoke it, because it may have leaked, and remove it from the file or from the source of the file. "
        "If it is a false positive in Markdown, put `pragma: allowlist secret` in a comment on the line.",
        file=str(place) if isinstance(place, Path) else None,
        line=first.line if isinstance(place, Path) else None,
    )


def is_text(name: str) -> bool:
    """Whether a file with this name is text."""
    return name.endswith(_TEXTS)


def _finds(name: str, content: Content) -> list[Find]:
    if name.endswith(".safetensors") and isinstance(content, Path):
        data = _header(content)
    elif is_text(name) and size_of(content) <= TOKENIZER_LIMIT:
        data = content if isinstance(content, bytes) else content.read_bytes()
    else:
        return []
    return find_secrets(data.decode("utf-8", "replace"))


def _header(path: Path) -> bytes:
    """The header of a safetensors file: JSON with names, shapes and metadata."""
    with path.open("rb") as file:
        return file.read(min(int.from_bytes(file.read(8), "little"), JSON_LIMIT))


def _largest_weights(folder: ModelFolder) -> int:
    """Size in bytes, in float64, with an untied head and the attention masks of old GPT-2 files."""
    config = folder.config
    head, masks = config.vocab_size * config.n_embd, config.n_layer * config.block_size**2
    return 8 * (element_count(config) + head) + 4 * masks + JSON_LIMIT
