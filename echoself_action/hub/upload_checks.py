"""What may leave a model folder: files of the list that is published, each a plain file of the folder, of a sane size, and
without a secret in its text."""

import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..checkpoint.model_folder import WEIGHTS_FILE, ModelFolder, numbers_of
from ..errors import CheckpointError
from .repo import Content, size_of
from .secrets import Find, find_secrets

MEGABYTE = 1_000_000
JSON_LIMIT, TOKENIZER_LIMIT, LOG_LIMIT = 10 * MEGABYTE, 50 * MEGABYTE, 50 * MEGABYTE
_TEXTS = (".json", ".jsonl", ".md", ".py", ".txt", ".yaml", ".yml")
_SHOWN = 20  # finds in a message


def stage(folder: ModelFolder, names: Iterable[str]) -> dict[str, Content]:
    """Those of `names` that are in the folder. Raises CheckpointError for one that must not be published."""
    root = folder.path.resolve()
    there: dict[str, Content] = {}
    for name in names:
        path = folder.path / name
        if not (path.is_symlink() or path.exists()):
            continue
        if not path.resolve().is_relative_to(root):
            raise CheckpointError(
                f"{path} is a link to {path.resolve()}, out of the folder. Nothing was published.",
                "Publish a folder that holds its files itself (cp -rL makes one).",
            )
        if not path.exists() or not stat.S_ISREG(path.stat().st_mode):
            raise CheckpointError(f"{path} is no file. Nothing was published.", "Take it away, or put the file there.")
        limit, size = size_limit(folder, name), path.stat().st_size
        if size > limit:
            raise CheckpointError(
                f"{path} has {size:,} bytes, and {limit:,} is the most that such a file may have. Nothing was published.",
                "It holds something else than its name says: use a folder that was saved whole.",
            )
        there[name] = path
    return there


def size_limit(folder: ModelFolder, name: str) -> int:
    """The most bytes that this file of a model folder may have; of weights, what the config says that they are."""
    if name.endswith(".safetensors"):
        weights = _largest_weights(folder)
        return weights if name == WEIGHTS_FILE else 3 * weights  # Adam keeps two numbers a weight
    return TOKENIZER_LIMIT if name == "tokenizer.json" else LOG_LIMIT if name.endswith(".jsonl") else JSON_LIMIT


def refuse_secrets(files: Mapping[str, Content]) -> None:
    """Raises CheckpointError where a text among `files` holds what looks like a secret, never showing the secret."""
    finds = [(name, find) for name, content in files.items() for find in _finds(name, content)]
    if not finds:
        return
    shown = "; ".join(f"{name}, line {find.line}: {find.kind}" for name, find in finds[:_SHOWN])
    name, first = finds[0]
    place = files[name]
    raise CheckpointError(
        f"What would be published holds what looks like a secret: {shown}. Nothing was published.",
        "Revoke it where it is real, for it may have been seen, and take it out of the file or of what the file is made from. "
        "A false alarm in Markdown: put `pragma: allowlist secret` in a comment on the line.",
        file=str(place) if isinstance(place, Path) else None,
        line=first.line if isinstance(place, Path) else None,
    )


def is_text(name: str) -> bool:
    """Whether people read a file of this name."""
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
    """The text that a safetensors file begins with: names, shapes, and whatever its writer noted."""
    with path.open("rb") as file:
        return file.read(min(int.from_bytes(file.read(8), "little"), JSON_LIMIT))


def _largest_weights(folder: ModelFolder) -> int:
    """Bytes in float64 with an untied head, and the masks that old GPT-2 files carry."""
    config = folder.config
    head, masks = config.vocab_size * config.n_embd, config.n_layer * config.block_size**2
    return 8 * (numbers_of(config) + head) + 4 * masks + JSON_LIMIT
