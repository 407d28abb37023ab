"""The held-out text that a checkpoint was evaluated on, kept beside it: what it is compared on before it is published.

It stays on the machine, and in the job's artifacts: a publish sends a list of files, and this is not on it.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

HELD_OUT_FILE = "held_out.safetensors"


def write_held_out(folder: Path, windows: Sequence[npt.NDArray[np.integer]]) -> None:
    """Write 1-D windows of token ids into the checkpoint that is being made at `folder`."""
    lengths = np.array([len(window) for window in windows], np.int32)
    save_file({"ids": np.concatenate(windows).astype(np.int32), "lengths": lengths}, folder / HELD_OUT_FILE)


def read_held_out(folder: Path) -> list[npt.NDArray[np.integer]] | None:
    """The windows; None where there are none that can be read."""
    try:
        stored = load_file(folder / HELD_OUT_FILE)
        return [window for window in np.split(stored["ids"], np.cumsum(stored["lengths"])[:-1]) if len(window) > 1]
    except (OSError, SafetensorError, KeyError, ValueError):
        return None
