"""Finds checkpoints below a folder: model folders, and `.pt` files that EchoSelf's workflows and nanoGPT save.

Files are found by name, and ranked by what they record: the held-out loss first, then the step.
"""

import json
import math
import os
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checkpoint.metadata import METADATA_FILE
from ..checkpoint.model_folder import CONFIG_FILE, WEIGHTS_FILE, read_model_folder
from ..errors import CheckpointError
from .detect_layout import number
from .torch_file.reader import TorchFile, read_torch_file
from .trained_ids import GPT2_SIZE, OF_CODES, trained_ids

NAMES = ("latest_checkpoint.pt", "best_model.pt", "best_model_export.pt", "ckpt.pt")
CACHE = ("cache", "checkpoints")  # in a folder with this path, every .pt is a checkpoint
CACHE_INDEX = "metadata.json"  # beside `checkpoints`: the index of NanEcho's cache, with an entry for each file
PROGRESS = ".training-progress"  # the only hidden folder that is searched
MOST_FOLDERS, MOST_CHECKPOINTS, DEEPEST = 20_000, 200, 10
_SKIPPED = {"node_modules", "__pycache__", "site-packages"}
_SET_ASIDE = "superseded-"
_LARGEST_INDEX = 16 << 20  # bytes
_STEPS = ("iter_num", "iteration", "global_step", "step")
_LOSSES = (
    "val_loss",
    "best_val_loss",
)  # that of these weights first, then the lowest of their run; `loss` may be the training loss
_NANECHO_TOKENS = "token_embedding.weight"
_OPTIMIZERS = ("optimizer", "optimizer_state_dict")


@dataclass(frozen=True)
class FoundCheckpoint:
    """A checkpoint that was found, and what it records. `val_loss` is in nats per token.

    `refused` is the reason why it can't be read, "" if it can. `on_training_text`: the loss that it records was measured on
    its training text, so `val_loss` is None.
    """

    path: Path
    layout: str = ""
    step: int | None = None
    val_loss: float | None = None
    has_optimizer: bool = False
    refused: str = ""
    on_training_text: bool = False

    def __str__(self) -> str:
        step = "no step" if self.step is None else f"step {self.step:,}"
        unknown = "its loss was measured on its training text" if self.on_training_text else "no held-out loss recorded"
        loss = unknown if self.val_loss is None else f"held-out loss {self.val_loss:.4f}"
        line = self.refused or f"{self.path}: {self.layout}; {step}; {loss}"
        return "".join(
            letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line
        )  # a path may contain any character


@dataclass(frozen=True)
class Found:
    """The checkpoints below a folder; `cut_short` is the reason why the search ended early, "" if it did not."""

    candidates: list[FoundCheckpoint]
    cut_short: str = ""


def find_checkpoints(root: Path, skip: Path | None = None) -> Found:
    """The checkpoints below `root`, best first, without the model folders directly in `skip`.

    Links out of `root` are not followed, and no code in a file is run. Files that can't be read are listed with the reason.
    """
    paths, cut_short = _walk(root, skip)
    return Found(ranked(_inspect(path, root) for path in paths), cut_short)


def ranked(candidates: Iterable[FoundCheckpoint]) -> list[FoundCheckpoint]:
    """Sorted by held-out loss, lowest first, then by step, highest first. Those without a loss follow; refused ones are last.

    Of those with equal loss and step, one with an optimizer state is first. The path makes the order the same on all machines.
    """
    return sorted(
        candidates,
        key=lambda one: (
            bool(one.refused),
            math.inf if one.val_loss is None else one.val_loss,
            -1 if one.step is None else -one.step - 2,
            not one.has_optimizer,
            str(one.path),
        ),
    )


def _walk(root: Path, skip: Path | None) -> tuple[list[Path], str]:
    """Paths that may be checkpoints, nearest first, each file once."""
    found: dict[Path, Path] = {}  # resolved path -> path as found
    queue, seen = deque([(root, 0)]), 0
    while queue:
        folder, depth = queue.popleft()
        seen += 1
        if seen > MOST_FOLDERS or len(found) > MOST_CHECKPOINTS:
            what = f"{MOST_FOLDERS:,} folders" if seen > MOST_FOLDERS else f"{MOST_CHECKPOINTS} checkpoints"
            return list(found.values())[:MOST_CHECKPOINTS], f"{root} has more than {what}: the rest was not searched"
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            continue  # without permission to read it
        names = {entry.name for entry in entries}
        if "pyvenv.cfg" in names:
            continue
        if {CONFIG_FILE, WEIGHTS_FILE, METADATA_FILE} <= names and not (skip and _same(folder.parent, skip)):
            found.setdefault(folder.resolve(), folder)
        for entry in entries:
            path = Path(folder, entry.name)
            if entry.is_dir(follow_symlinks=False):
                if depth < DEEPEST and not _skipped(entry.name):
                    queue.append((path, depth + 1))
            elif _may_be_checkpoint(path) and path.is_file():
                found.setdefault(path.resolve(), path)
    return list(found.values()), ""


def _skipped(name: str) -> bool:
    hidden = name.startswith(".") and name != PROGRESS  # .git, .venv, and folders that are still being written
    return hidden or name in _SKIPPED or name.startswith(_SET_ASIDE)


def _may_be_checkpoint(path: Path) -> bool:
    return path.name in NAMES or (path.suffix == ".pt" and path.parent.parts[-2:] == CACHE)


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _inspect(path: Path, root: Path) -> FoundCheckpoint:
    if not path.resolve().is_relative_to(root.resolve()):
        return FoundCheckpoint(path, refused=f"{path} is a link that leads out of {root}. It was not followed.")
    try:
        return _inspect_folder(path) if path.is_dir() else _inspect_file(path)
    except CheckpointError as error:
        return FoundCheckpoint(path, refused=error.message)
    except Exception as error:  # an untrusted file may raise any error; the search continues
        return FoundCheckpoint(path, refused=f"{path} can't be read ({type(error).__name__}: {error}). It was not used.")


def _inspect_folder(path: Path) -> FoundCheckpoint:
    folder = read_model_folder(path)
    loss = folder.metadata.val_loss if folder.metadata else None
    return FoundCheckpoint(path, "model folder", folder.step, _loss(loss), folder.has_training_state)


def _inspect_file(path: Path) -> FoundCheckpoint:
    file = read_torch_file(path)
    inner = [file.content[key] for key in ("metadata", "metrics") if isinstance(file.content.get(key), Mapping)]
    recorded = [file.content, *inner, *_index_entry(path)]
    step = next((place[key] for place in recorded for key in _STEPS if type(place.get(key)) is int), None)
    losses = (_loss(place.get(key)) for key in _LOSSES for place in recorded)
    val_loss = next((loss for loss in losses if loss is not None), None)
    optimizers = (file.content.get(key) for key in _OPTIMIZERS)
    has_optimizer = any(isinstance(optimizer, Mapping) and optimizer for optimizer in optimizers)
    on_training_text = val_loss is not None and _knows_characters(file)
    return FoundCheckpoint(
        path,
        file.layout.name,
        step,
        None if on_training_text else val_loss,
        has_optimizer,
        on_training_text=on_training_text,
    )


def _knows_characters(file: TorchFile) -> bool:
    """Whether it is a NanEcho that was trained on character codes: its trainers wrote the same text to both of their files."""
    embedding = file.weights.get(_NANECHO_TOKENS)
    if embedding is None or embedding.ndim != 2 or len(embedding) < GPT2_SIZE or file.content.get("tokenizer"):
        return False
    found = trained_ids(embedding)
    file.release()
    return found in OF_CODES


def _loss(value: object) -> float | None:
    """A loss above 0: EchoSelf's scripts write 0.0 or infinity for an unknown loss."""
    loss = None if value is None else number(value)
    return loss if loss is not None and loss > 0 else None


def _index_entry(path: Path) -> list[Mapping[str, Any]]:
    """The entry of the file in the index of NanEcho's cache, if it is in one."""
    index = path.parent.parent / CACHE_INDEX
    try:
        if path.parent.parts[-2:] != CACHE or index.is_symlink() or index.stat().st_size > _LARGEST_INDEX:
            return []
        entry = json.loads(index.read_bytes())[path.stem]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []
    if not isinstance(entry, Mapping):
        return []
    metrics = entry.get("metrics")
    return [entry, metrics] if isinstance(metrics, Mapping) else [entry]
