"""What the exports for other programs have in common: the moments and the settings that they carry, and one `.pt`, whole."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...checkpoint.atomic import new_file
from ...checkpoint.model_folder import WEIGHTS_FILE, ModelFolder, sha256
from ...errors import CheckpointError
from ...training.training_state import read_state


def kept_moments(folder: ModelFolder) -> dict[str, Tensor]:
    """The optimizer's moments, as `optimizer.moments` gives them; empty where the folder has none.

    Raises CheckpointError where they are broken, or of other weights.
    """
    return read_state(folder.path, sha256(folder.path / WEIGHTS_FILE))[1] if folder.has_training_state else {}


def plain_settings(folder: ModelFolder) -> dict[str, Any]:
    """How the model was trained, in values that every reader of pickles takes."""
    settings = folder.metadata.settings if folder.metadata else {}
    return {name: value for name, value in settings.items() if isinstance(value, bool | int | float | str)}


def save_pt(content: dict[str, Any], path: Path) -> None:
    """Write the `.pt`, whole or not at all. Raises CheckpointError."""
    try:
        with new_file(path) as file:
            torch.save(content, file)
    except (OSError, RuntimeError) as error:  # PyTorch's writer turns a full disk into a RuntimeError
        raise CheckpointError(f"{path} could not be written: {error}.", "Free disk space.") from error
