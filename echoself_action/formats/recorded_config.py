"""What a checkpoint says of itself, in it or in a JSON beside it: sizes, the step, losses, how it was trained."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .detect_layout import first, number, places
from .torch_file.reader import TorchFile

SIZES = ("n_layer", "n_embd", "block_size", "vocab_size")
# Other names of a size: transformers' own, in its newer and in its older files.
_NAMES = {"block_size": ("block_size", "n_positions", "n_ctx")}
_KEYS = ("model_args", "model_config", "config")  # where the layouts keep sizes
_LARGEST_JSON = 4 << 20  # bytes
# What of a trainer's settings says how the model was trained; the others are paths and names on somebody's machine.
_SETTINGS = (
    *("batch_size", "gradient_accumulation_steps", "max_iters", "weight_decay", "beta1", "beta2", "grad_clip", "dtype"),
    *("learning_rate", "decay_lr", "warmup_iters", "lr_decay_iters", "min_lr", "dataset"),
)


@dataclass(frozen=True)
class Declared:
    """What one place says. `where` is its name for a message."""

    where: str
    values: Mapping[Any, Any]

    def size(self, name: str) -> int | None:
        """A size, by whichever of its names; None where it is no whole number above 0."""
        value = next((self.values[key] for key in _NAMES.get(name, (name,)) if key in self.values), None)
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool) and value > 0
        return int(value) if whole else None  # type: ignore[arg-type]


def inside(foreign: TorchFile) -> list[Declared]:
    """The places in the file that may say sizes."""
    content = foreign.content
    found = [Declared(f"its {key}", _told(content[key])) for key in _KEYS if isinstance(content.get(key), Mapping)]
    metadata = content.get("metadata")
    if isinstance(metadata, Mapping):
        nested = metadata.get("model_config")
        found += [Declared("its metadata", _told(nested if isinstance(nested, Mapping) else metadata))]
    return found


def _told(values: Mapping[Any, Any]) -> dict[Any, Any]:
    """Without arrays, which say nothing of a model: asked whether it is this or that, one answers for each of its numbers."""
    return {key: value for key, value in values.items() if not (isinstance(value, np.ndarray) and value.ndim)}


def beside(path: Path) -> list[Declared]:
    """The JSON files beside `path` that describe a GPT-2, the most trustworthy first."""
    found = []
    for name in ("model_config.json", "training_metadata.json", "config.json"):
        values = read_json(path.parent / name)
        nested = values.get("model_config")
        described = Declared(f"{name} beside it", nested if isinstance(nested, Mapping) else values)
        if described.size("n_head"):
            found.append(described)
    return found


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object at `path`; empty where there is none, or not one."""
    try:
        values = json.loads(path.read_bytes()) if path.stat().st_size <= _LARGEST_JSON else None
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def training_settings(settings: object) -> dict[str, Any]:
    """What of a trainer's settings is kept, under nanoGPT's names."""
    plain = settings if isinstance(settings, Mapping) else {}
    return {name: plain[name] for name in _SETTINGS if isinstance(plain.get(name), bool | int | float | str)}


def step_of(foreign: TorchFile) -> int | None:
    """Optimizer steps, from wherever the layout keeps them. Raises CheckpointError where they are no count."""
    step = first(places(foreign.content), ("iter_num", "iteration", "global_step", "step", "current_iteration"))
    if step is None:
        return None
    if not isinstance(step, int | np.integer) or isinstance(step, bool) or not 0 <= step < 1 << 53:
        foreign.refuse("has a step that is not a valid step count")
    return int(step)


def losses_of(foreign: TorchFile) -> tuple[float | None, float | None]:
    """(training loss, lowest validation loss), as the file has them. A `loss` is that of training."""
    found = places(foreign.content)
    return number(first(found, ("train_loss", "loss"))), number(first(found, ("best_val_loss", "val_loss")))
