"""The checkpoints in output_dir: their names, and which is the latest, the best, or the one to resume from, by their metadata.

A checkpoint of the stable phase is `checkpoint-<step>`, one of a decay phase `checkpoint-<step>-decayed`: training resumes from
before a decay phase, and later reaches the same step in the stable phase.

transformers' Trainer uses the same names. Its folders are not checkpoints of a run of this program: they are never selected,
renamed or deleted here, and a checkpoint of their step is `checkpoint-<step>-2`.
"""

import json
import re
from collections.abc import Callable
from itertools import count
from pathlib import Path

from ..errors import CheckpointError
from .atomic import remove_folder, set_aside
from .metadata import METADATA_FILE, Metadata, read_metadata
from .model_folder import TRAINING_STATE, ModelFolder, read_model_folder

_NAME = re.compile(r"checkpoint-(\d+)(?:-decayed)?(?:-\d+)?")


def checkpoint_path(output_dir: Path, facts: Metadata | None) -> Path:
    """The path for a checkpoint with these metadata, which may exist."""
    step = facts.step if facts else 0
    decayed = facts is not None and facts.branched_from is not None
    return output_dir / f"checkpoint-{step}{'-decayed' if decayed else ''}"


def free_path(place: Path, note: Callable[[str], None] = lambda _: None) -> Path:
    """`place` or, if that is taken, a numbered one.

    A checkpoint of the stable phase is set aside instead, which `note` gets. One of a decay phase is never moved, because it
    may be the best, and published; nor is a folder of another program.
    """
    facts = read_metadata(place) if place.exists() else None
    if facts and facts.branched_from is not None and "-decayed" not in place.name:  # by an older version
        place.rename(free_path(checkpoint_path(place.parent, facts)))
    for number in count(1):
        path = place if number == 1 else place.with_name(f"{place.name}-{number}")
        if not path.exists():
            break
        if not place.name.endswith("-decayed") and _is_own(path):
            note(f"set aside {path}: {set_aside(path)}")
            break
    return path


def is_foreign(path: Path) -> bool:
    """Whether another program wrote the folder `path`: it has files, but neither the metadata nor the state of this program."""
    return path.name != "checkpoint-0" and not _is_own(path)  # older versions pull stock models as checkpoint-0


def _is_own(path: Path) -> bool:
    """Whether this program wrote what is left in the folder `path`, which may be nothing."""
    names = {entry.name for entry in path.iterdir()} if path.is_dir() else set()
    return not names or TRAINING_STATE in names or (METADATA_FILE in names and not _is_other_metadata(path / METADATA_FILE))


def _is_other_metadata(path: Path) -> bool:
    """Whether it is intact, and not of this program: some trainers use the same file name."""
    try:
        whole = isinstance(json.loads(path.read_bytes()), dict)
    except (OSError, ValueError, RecursionError):
        return False
    return whole and read_metadata(path.parent) is None


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
    step = branched_from(folder)
    found = [] if step is None else [_read(path) for path in folders_of_step(folder.path.parent, step)]
    return next((one for one in found if isinstance(one, ModelFolder) and _is_stable_in_run_of(folder, one)), folder)


def _is_stable_in_run_of(folder: ModelFolder, other: ModelFolder) -> bool:
    facts = other.metadata
    return bool(facts and folder.metadata and facts.branched_from is None and facts.run_id == folder.metadata.run_id)


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


def foreign_checkpoints(output_dir: Path) -> list[Path]:
    """The `checkpoint-<step>` folders of other programs in `output_dir`, sorted by step."""
    return [path for path in _named(output_dir) if is_foreign(path)]


def foreign_text(found: list[Path]) -> str:
    """That `found`, the folders of `foreign_checkpoints`, are not used."""
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return f"{found[-1]}{more} in {found[-1].parent} were not written by this program and are not used."


def _numbered(output_dir: Path) -> list[Path]:
    return [path for path in _named(output_dir) if not is_foreign(path)]


def _named(output_dir: Path) -> list[Path]:
    found = ((_NAME.fullmatch(path.name), path) for path in output_dir.glob("checkpoint-*"))
    return [path for _, _, path in sorted((int(match[1]), path.name, path) for match, path in found if match and path.is_dir())]
