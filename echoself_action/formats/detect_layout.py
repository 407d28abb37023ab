"""Detects the layout of a `.pt` by its top-level keys, and finds its state dict, step and losses."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..checkpoint.arrays import BFLOAT16, Array, as_float32
from .registry import LAYOUTS, PREFIXES, RAW, Layout, format_of, known_layouts
from .torch_file.archive import Archive, refuse
from .torch_file.stub import name_of

_EMBEDDINGS = ("wte.weight", "token_embedding.weight")  # of GPT-2 and NanEcho
_ONCE = "Save the model once, with or without a prefix of its names."
_SAVE = "Save its state dict: `torch.save({'model': model.state_dict(), 'config': config}, path)`."


def detect_layout(archive: Archive, content: object) -> tuple[Layout, dict[str, Array]]:
    """The layout, and the state dict without name prefixes. Raises CheckpointError if the layout is not recognised."""
    if name := name_of(content):
        refuse(
            archive.path,
            f"contains a whole object (of the class {name}), expected a dict",
            _SAVE,
        )
    if not isinstance(content, Mapping):
        refuse(archive.path, f"contains a {type(content).__name__}, expected a dict", _SAVE)
    plain = {key for key in content if isinstance(key, str)}
    layout = next((layout for layout in LAYOUTS if layout.keys <= plain), None)
    if layout is None and content and all(isinstance(value, np.ndarray) for value in content.values()):
        layout = RAW
    if layout is None:
        refuse(
            archive.path,
            f"is not a recognised checkpoint format. Its top-level keys are: {shown(list(content))}. Recognised layouts: "
            f"{known_layouts()}",
            "Use a checkpoint in one of these layouts, or a model folder.",
        )
    return layout, _state_dict(archive, content[layout.weights] if layout.weights else content)


def _state_dict(archive: Archive, weights: object) -> dict[str, Array]:
    if name := name_of(weights):
        refuse(
            archive.path,
            f"holds a whole object (of the class {name}) instead of a state dict",
            _SAVE,
        )
    if not isinstance(weights, Mapping) or not weights:
        refuse(archive.path, "has no state dict under the key of its layout", _SAVE)
    plain: dict[str, Array] = {}
    for key, tensor in weights.items():
        if not isinstance(key, str) or not isinstance(tensor, np.ndarray):
            refuse(archive.path, f"has {shown([key])} in its state dict, which is not a named tensor", _SAVE)
        name = without_prefixes(key)
        if name in plain:
            refuse(archive.path, f"has two tensors named {name[:100]}", _ONCE)
        plain[name] = tensor
    return _without_root(archive, plain)


def _without_root(archive: Archive, plain: dict[str, Array]) -> dict[str, Array]:
    """The tensors without what stands before all names of the model: `model.` of Lightning, which saves a module around it."""
    roots = {name.removesuffix(end).removesuffix("transformer.") for end in _EMBEDDINGS for name in plain if name.endswith(end)}
    if len(roots) > 1:
        refuse(
            archive.path,
            f"has several models in its state dict: {shown([*sorted(roots)])}",
            "Save one of them: `torch.save({name.removeprefix(root): ... for its tensors}, path)`.",
        )
    root = "".join(roots)
    found: dict[str, Array] = {}
    for name, tensor in plain.items():
        short = name.removeprefix(root)
        if short in found:
            refuse(archive.path, f"has two tensors named {short[:100]}", _ONCE)
        found[short] = tensor
    return found


def without_prefixes(name: str) -> str:
    """The name of a tensor in the model itself."""
    while name.startswith(PREFIXES):
        name = name.removeprefix(PREFIXES[0]).removeprefix(PREFIXES[1])
    return name


def describe(archive: Archive, layout: Layout, content: Mapping[Any, Any], weights: Mapping[str, Array]) -> str:
    """One line: layout, architecture, step, loss, size."""
    found = places(content)
    step = first(found, ("iter_num", "iteration", "global_step", "step", "epoch"))
    loss = number(first(found, ("best_val_loss", "val_loss", "best_loss", "loss")))
    recognised = format_of("", weights.keys())
    architecture = recognised.display_name if recognised else "another architecture"
    count = sum(tensor.size for tensor in weights.values())
    facts = [
        f"{architecture}, {len(weights)} tensors with {count:,} numbers",
        f"step {step:,}" if isinstance(step, int) else "no step",
        "no loss" if loss is None else f"loss {loss:.4f}",
        f"{archive.size:,} bytes",
    ]
    return f"{archive.path}: {layout.name}; {'; '.join(facts)}"


def places(content: Mapping[Any, Any]) -> list[Mapping[Any, Any]]:
    """The mappings in which a layout may store its step and its losses."""
    return [content, *(content[key] for key in ("metadata", "metrics") if isinstance(content.get(key), Mapping))]


def first(found: list[Mapping[Any, Any]], keys: tuple[str, ...]) -> object:
    """The first value in `found` under one of `keys`, None if there is none."""
    return next((place[key] for place in found for key in keys if key in place), None)


def number(value: object) -> float | None:
    """`value` as a finite float, if it is a number, a NumPy scalar or an array with one element; otherwise None."""
    if isinstance(value, np.ndarray):
        value = (as_float32(value) if value.dtype == BFLOAT16 else value).item() if value.size == 1 else None
    try:
        found = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def count(value: object) -> int | None:
    """`value` as a number of steps, if it is an integer of at least 0 in Python, NumPy or a tensor; otherwise None."""
    if isinstance(value, np.ndarray) and value.size == 1 and value.dtype.kind in "iu":
        value = value.item()
    is_count = isinstance(value, int | np.integer) and not isinstance(value, bool) and 0 <= value < 1 << 53
    return int(value) if is_count else None  # type: ignore[call-overload]


def shown(keys: list[object]) -> str:
    """Keys, for a message. Other keys than strings are shown by type, because their repr could have any size."""
    names = [repr(key[:60]) if isinstance(key, str) else f"a {type(key).__name__}" for key in keys[:20]]
    return (", ".join(names) or "none") + (f" and {len(keys) - 20} more" if len(keys) > 20 else "")
