"""Shared by the exporters: the optimizer's moments, the settings, and writing a `.pt` atomically."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...checkpoint.atomic import new_file
from ...checkpoint.model_folder import WEIGHTS_FILE, ModelFolder, sha256
from ...errors import CheckpointError
from ...training.training_state import read_state


def kept_moments(folder: ModelFolder) -> dict[str, Tensor]:
    """The optimizer's moments by `<moment>.<name>`; empty if the folder has none.

    Raises CheckpointError if they are damaged, or belong to other weights.
    """
    return read_state(folder.path, sha256(folder.path / WEIGHTS_FILE))[1] if folder.has_training_state else {}


def moments_notes(moments: Mapping[str, Tensor]) -> tuple[str, ...]:
    """What the exported state of AdamW does not have of `moments`."""
    of_muon = sum(name.startswith("momentum.") for name in moments)
    if not of_muon:
        return ()
    return (
        f"Muon's momentum of {of_muon} matrices was not exported, because AdamW can't use it: AdamW starts "
        "with a new state for them, and keeps its state of the other parameters",
    )


def plain_settings(folder: ModelFolder) -> dict[str, Any]:
    """The training settings whose types every unpickler allows."""
    settings = folder.metadata.settings if folder.metadata else {}
    return {name: value for name, value in settings.items() if isinstance(value, bool | int | float | str)}


def save_pt(content: dict[str, Any], path: Path) -> None:
    """Write the `.pt`, atomically. Raises CheckpointError if it can't be written."""
    try:
        with new_file(path) as file:
            torch.save(content, file)
    except (OSError, RuntimeError) as error:  # PyTorch's writer turns a full disk into a RuntimeError
        raise CheckpointError(f"{path} could not be written: {error}.", "Free disk space.") from error
