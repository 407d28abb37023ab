"""Which checkpoints are there, and which is latest or best: found by reading the folders, not by trusting a pointer file."""

import re
from pathlib import Path

from ..errors import CheckpointError
from .atomic import remove_folder
from .model_folder import ModelFolder, read_model_folder


def checkpoints(output_dir: Path) -> list[ModelFolder]:
    """The whole `checkpoint-<step>` folders in `output_dir`, by rising step; `broken` has the others."""
    return [found for path in _numbered(output_dir) if isinstance(found := _read(path), ModelFolder)]


def broken(output_dir: Path) -> list[CheckpointError]:
    """What is wrong with those that have a final name and are no model folders."""
    return [found for path in _numbered(output_dir) if isinstance(found := _read(path), CheckpointError)]


def latest(output_dir: Path) -> ModelFolder | None:
    """The checkpoint with the most steps, or None."""
    found = checkpoints(output_dir)
    return found[-1] if found else None


def resumable(output_dir: Path, max_iters: int | None = None) -> list[ModelFolder]:
    """The checkpoints that training may go on from, the first choice first.

    That is the newest on the line of a constant rate, then those before it; those on branches, which have begun to decay,
    come last. A branch whose end is just `max_iters` steps away is what a run was in the middle of, and comes first.
    """
    found = checkpoints(output_dir)[::-1]
    line = [folder for folder in found if branched_from(folder) is None]
    branches = [folder for folder in found if branched_from(folder) is not None]
    newest = line[0].step if line else None
    unfinished = [
        folder
        for folder in branches
        if branched_from(folder) == newest and folder.metadata and folder.metadata.branch_end == folder.step + (max_iters or -1)
    ]
    return [*unfinished, *line, *(folder for folder in branches if folder not in unfinished)]


def branched_from(folder: ModelFolder) -> int | None:
    """The step of the checkpoint whose rate began to decay to give this one; None where it is on the line itself."""
    return folder.metadata.branched_from if folder.metadata else None


def line_of(folder: ModelFolder) -> ModelFolder:
    """The checkpoint that this one's rate fell from, where it lies beside it; else the same."""
    origin = folder.path.parent / f"checkpoint-{branched_from(folder)}"
    found = _read(origin)
    if not isinstance(found, ModelFolder) or not found.metadata or not folder.metadata:
        return folder
    return found if found.metadata.run_id == folder.metadata.run_id else folder


def best(output_dir: Path) -> ModelFolder | None:
    """The checkpoint with the lowest held-out loss on the data that the latest was evaluated on, by their metadata.

    The latest where that has no held-out loss; None where there is no checkpoint.
    """
    found = checkpoints(output_dir)
    if not found:
        return None
    evaluated = [folder for folder in found if folder.metadata and folder.metadata.data]
    last = evaluated[-1].metadata if evaluated else None
    data = last.data.digest if last and last.data else None
    comparable = [
        folder
        for folder in found
        if (facts := folder.metadata) and facts.val_loss is not None and facts.data and facts.data.digest == data
    ]
    return min(comparable, key=_val_loss, default=found[-1])


def prune(output_dir: Path, keep: int) -> None:
    """Delete the oldest checkpoints until `keep` are left; the best, the latest and what training goes on from always stay."""
    found = checkpoints(output_dir)
    needed = [folder for folder in (best(output_dir), *found[-1:], *resumable(output_dir)[:1]) if folder]
    spare = [folder for folder in found if folder not in needed]
    for folder in spare[: max(0, len(found) - keep)]:
        remove_folder(folder.path)


def _val_loss(folder: ModelFolder) -> float:
    assert folder.metadata
    assert folder.metadata.val_loss is not None
    return folder.metadata.val_loss


def _read(path: Path) -> ModelFolder | CheckpointError:
    try:
        return read_model_folder(path)
    except CheckpointError as error:
        return error


def _numbered(output_dir: Path) -> list[Path]:
    found = ((re.fullmatch(r"checkpoint-(\d+)", path.name), path) for path in output_dir.glob("checkpoint-*"))
    return [path for _, path in sorted((int(match[1]), path) for match, path in found if match and path.is_dir())]
