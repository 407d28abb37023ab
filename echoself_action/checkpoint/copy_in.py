"""Copies or moves a model folder into output_dir: checked, and under its usual name."""

import shutil
from collections.abc import Callable
from pathlib import Path

from ..errors import CheckpointError
from ..workspace import create_output_dir
from .atomic import new_folder
from .metadata import METADATA_FILE
from .model_folder import (
    CONFIG_FILE,
    GENERATION_FILE,
    HELD_OUT_FILE,
    OPTIMIZER_FILE,
    SPARE_FILE,
    STATE_FILE,
    TOKENIZER_FILES,
    TRAINING_STATE,
    WEIGHTS_FILE,
    ModelFolder,
    check_weights,
    read_model_folder,
    sha256,
)
from .select import checkpoint_path, folders_of_step, free_path

_FILES = (CONFIG_FILE, GENERATION_FILE, WEIGHTS_FILE, *TOKENIZER_FILES, METADATA_FILE)
_STATE_FILES = tuple(f"{TRAINING_STATE}/{name}" for name in (STATE_FILE, OPTIMIZER_FILE, SPARE_FILE))


def copy_checkpoint(source: ModelFolder, output_dir: Path) -> ModelFolder:
    """Copy the known files of `source` into `output_dir` under its usual name, unless the same model is already there.

    Another checkpoint with that name is kept under another one (checkpoint/select.py). Code files in `source` are not copied:
    the copy has our own code. Raises CheckpointError if the weights are damaged or the copy can't be written.
    """
    return _transfer(source, output_dir, _copy)


def move_checkpoint(source: ModelFolder, output_dir: Path) -> ModelFolder:
    """`copy_checkpoint` by moving all files of `source`, a temporary folder."""
    return _transfer(source, output_dir, _move)


def _transfer(source: ModelFolder, output_dir: Path, transfer: Callable[[Path, Path], None]) -> ModelFolder:
    check_weights(source)
    final = checkpoint_path(output_dir, source.metadata)
    try:
        there = folders_of_step(output_dir, source.step)
        there.sort(key=source.path.samefile, reverse=True)  # itself before its copies
        for path in there:
            if path.samefile(source.path) or _is_undamaged_copy(path, source):
                return read_model_folder(path)
        final = free_path(final)
        create_output_dir(output_dir)
        with new_folder(final) as folder:
            transfer(source.path, folder)
            for name, code in source.architecture.remote_code().items():
                (folder / name).write_bytes(code)
    except OSError as error:
        raise CheckpointError(
            f"{final} could not be written: {error}.", "Free disk space, or set another output_dir."
        ) from error
    return read_model_folder(final)


def _is_undamaged_copy(final: Path, source: ModelFolder) -> bool:
    """Whether `final` is a complete model folder with the weights of `source`, and its training state if `source` has one."""
    try:
        read_model_folder(final)
    except CheckpointError:
        return False
    files = (WEIGHTS_FILE, *(_STATE_FILES if source.has_training_state else ()))
    return all(_sha256_of(final / name) == _sha256_of(source.path / name) for name in files)


def _sha256_of(path: Path) -> str | None:
    return sha256(path) if path.is_file() else None


def _copy(source: Path, folder: Path) -> None:
    for name in (*_FILES, *_STATE_FILES, HELD_OUT_FILE):
        if (source / name).is_file():
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(source / name, folder / name)


def _move(source: Path, folder: Path) -> None:
    for path in source.iterdir():
        path.rename(folder / path.name)
