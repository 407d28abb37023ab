"""The checkpoints in output_dir: their names, and which is the latest, the best, or the one to resume from, by their metadata.

A checkpoint of the stable phase is `checkpoint-<step>`, one of a decay phase `checkpoint-<step>-decayed`: training resumes from
before a decay phase, and later reaches the same step in the stable phase.
"""

import re
from itertools import count
from pathlib import Path

from ..errors import CheckpointError
from .atomic import remove_folder, set_aside
from .metadata import Metadata, read_metadata
from .model_folder import ModelFolder, read_model_folder

_NAME = re.compile(r"checkpoint-(\d+)(?:-decayed(?:-\d+)?)?")


def checkpoint_path(output_dir: Path, facts: Metadata | None) -> Path:
    """The path for a checkpoint with these metadata, which may exist."""
    step = facts.step if facts else 0
    decayed = facts is not None and facts.branched_from is not None
    return output_dir / f"checkpoint-{step}{'-decayed' if decayed else ''}"


def free_path(place: Path) -> Path:
    """`place` or, for a checkpoint of a decay phase if it is taken, a numbered one; another checkpoint there is set aside.

    A decayed checkpoint is never moved: it may be the best, and published.
    """
    facts = read_metadata(place) if place.exists() else None
    if facts and facts.branched_from is not None and "-decayed" not in place.name:  # by an older version
        place.rename(free_path(checkpoint_path(place.parent, facts)))
    if not place.exists():
        return place
    if not place.name.endswith("-decayed"):
        set_aside(place)
        return place
    return next(free for number in count(2) if not (free := place.with_name(f"{place.name}-{number}")).exists())


def checkpoints(output_dir: Path) -> list[ModelFolder]:
    """The valid checkpoints in `output_dir`, sorted by step. `broken` returns the errors of the others."""
    return [found for path in _numbered(output_dir) if isinstance(found := _read(path), ModelFolder)]


def broken(output_dir: Path) -> list[CheckpointError]:
    """The errors of the checkpoints in `output_dir` that are not valid model folders."""
    return [found for path in _numbered(output_dir) if isinstance(found := _read(path), CheckpointError)]


def latest(output_dir: Path) -> ModelFolder | None:
    """The checkpoint with the most steps, or None."""
    found = checkpoints(output_dir)
    return found[-1] if found else None


def resumable(output_dir: Path, max_iters: int | None = None) -> list[ModelFolder]:
    """The checkpoints that training may resume from, the first choice first.

    Those of the stable phase come first, the newest before the others, and those of a decay phase last. The exception is a run
    that was interrupted in its decay phase: if the next run has just the steps that are missing, it completes that phase.
    `max_iters` is the number of steps of the next run.
    """
    found = checkpoints(output_dir)[::-1]
    stable = [folder for folder in found if branched_from(folder) is None]
    decaying = [folder for folder in found if branched_from(folder) is not None]
    unfinished = _unfinished_decay(stable[:1], decaying, max_iters)
    return [*unfinished, *stable, *(folder for folder in decaying if folder not in unfinished)]


def _unfinished_decay(newest: list[ModelFolder], decaying: list[ModelFolder], max_iters: int | None) -> list[ModelFolder]:
    """The checkpoints of a decay phase that started at the `newest` stable checkpoint and ends after `max_iters` more steps."""
    start = newest[0].step if newest else None
    return [
        folder
        for folder in decaying
        if branched_from(folder) == start and folder.metadata and folder.metadata.branch_end == folder.step + (max_iters or -1)
    ]


def branched_from(folder: ModelFolder) -> int | None:
    """The step at which the decay phase of this checkpoint started; None if it is in the stable phase."""
    return folder.metadata.branched_from if folder.metadata else None


def stable_checkpoint_of(folder: ModelFolder) -> ModelFolder:
    """The stable checkpoint at which the decay phase of `folder` started, if it is in the same directory; else `folder`."""
    origin = folder.path.parent / f"checkpoint-{branched_from(folder)}"
    found = _read(origin)
    if not isinstance(found, ModelFolder) or not found.metadata or not folder.metadata:
        return folder
    return found if found.metadata.run_id == folder.metadata.run_id else folder


def best(output_dir: Path) -> ModelFolder | None:
    """The checkpoint with the lowest recorded loss on the held-out text that the latest one was evaluated on.

    The latest if no such loss is recorded; None if there is no checkpoint.
    """
    found = checkpoints(output_dir)
    if not found:
        return None
    evaluated = [folder for folder in found if folder.metadata and folder.metadata.data]
    last = evaluated[-1].metadata if evaluated else None
    data, eval_tokens = (last.data, last.settings.get("eval_tokens")) if last else (None, None)
    comparable = [
        folder
        for folder in found
        if (facts := folder.metadata)
        and facts.val_loss is not None
        and data
        and facts.is_measured_on(data.digest, data.val_digest, eval_tokens)
    ]
    return min(comparable, key=_val_loss, default=found[-1])


def prune(output_dir: Path, keep: int, start: int | None = None) -> None:
    """Delete the oldest checkpoints until `keep` are left, but not the best, the latest and the one to resume from.

    Nor the stable one of step `start`, from which the run started: it may be rolled back to that.
    """
    found = checkpoints(output_dir)
    needed = [folder for folder in (best(output_dir), *found[-1:], *resumable(output_dir)[:1]) if folder]
    needed += [folder for folder in found if folder.step == start and branched_from(folder) is None]
    deletable = [folder for folder in found if folder not in needed]
    for folder in deletable[: max(0, len(found) - keep)]:
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


def folders_of_step(output_dir: Path, step: int) -> list[Path]:
    """The folders of checkpoints of this step in `output_dir`, which may be damaged."""
    return [path for path in _numbered(output_dir) if path.name.split("-")[1] == str(step)]


def _numbered(output_dir: Path) -> list[Path]:
    found = ((_NAME.fullmatch(path.name), path) for path in output_dir.glob("checkpoint-*"))
    return [path for _, _, path in sorted((int(match[1]), path.name, path) for match, path in found if match and path.is_dir())]
