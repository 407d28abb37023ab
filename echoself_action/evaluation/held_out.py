"""The held-out text that a checkpoint was evaluated on, stored with it for comparisons with other models.

It stays on the machine and in the job's artifacts: it is not one of the files that are published.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ..checkpoint.model_folder import HELD_OUT_FILE


def write_held_out(folder: Path, windows: Sequence[npt.NDArray[np.integer]]) -> None:
    """Write windows (1-D token ids) into the checkpoint at `folder`."""
    lengths = np.array([len(window) for window in windows], np.int32)
    save_file({"ids": np.concatenate(windows).astype(np.int32), "lengths": lengths}, folder / HELD_OUT_FILE)


def digest_of(windows: Sequence[npt.NDArray[np.integer]]) -> str:
    """A digest of windows (1-D token ids): which text something was measured on."""
    hashed = hashlib.blake2b(digest_size=16)
    for window in windows:
        hashed.update(np.asarray(window, np.int64).tobytes())
    return hashed.hexdigest()


def read_held_out(folder: Path) -> list[npt.NDArray[np.integer]] | None:
    """The windows of at least two ids; None if the file is missing or can't be read."""
    try:
        stored = load_file(folder / HELD_OUT_FILE)
        return [window for window in np.split(stored["ids"], np.cumsum(stored["lengths"])[:-1]) if len(window) > 1]
    except (OSError, SafetensorError, KeyError, ValueError):
        return None
