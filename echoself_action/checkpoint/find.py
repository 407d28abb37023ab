"""Which checkpoints are there, and which is latest or best: found by reading the folders, not by trusting a pointer file."""

import re
import shutil
from pathlib import Path

from .folder import ModelFolder, read_model_folder


def checkpoints(output_dir: Path) -> list[ModelFolder]:
    """The complete `checkpoint-<step>` folders in `output_dir`, by rising step.

    Raises CheckpointError where one with a final name is broken.
    """
    return [read_model_folder(path) for _, path in _numbered(output_dir)]


def latest(output_dir: Path) -> ModelFolder | None:
    """The checkpoint with the most steps, or None."""
    numbered = _numbered(output_dir)
    return read_model_folder(numbered[-1][1]) if numbered else None


def best(output_dir: Path) -> ModelFolder | None:
    """The checkpoint with the lowest held-out loss on the data that the latest was evaluated on, by their metadata.

    The latest where that has no held-out loss; None where there is no checkpoint.
    """
    found = checkpoints(output_dir)
    if not found:
        return None
    last = found[-1].metadata
    data = last.data.digest if last and last.data else None
    comparable = [
        folder
        for folder in found
        if (facts := folder.metadata) and facts.val_loss is not None and facts.data and facts.data.digest == data
    ]
    return min(comparable, key=_val_loss, default=found[-1])


def prune(output_dir: Path, keep: int) -> None:
    """Delete the oldest checkpoints until `keep` are left; the best and the latest always stay."""
    found = checkpoints(output_dir)
    chosen = best(output_dir)
    spare = [folder for folder in found[:-1] if chosen is None or folder.path != chosen.path]
    for folder in spare[: max(0, len(found) - keep)]:
        shutil.rmtree(folder.path)


def _val_loss(folder: ModelFolder) -> float:
    assert folder.metadata
    assert folder.metadata.val_loss is not None
    return folder.metadata.val_loss


def _numbered(output_dir: Path) -> list[tuple[int, Path]]:
    found = ((re.fullmatch(r"checkpoint-(\d+)", path.name), path) for path in output_dir.glob("checkpoint-*"))
    return sorted((int(match[1]), path) for match, path in found if match and path.is_dir())
