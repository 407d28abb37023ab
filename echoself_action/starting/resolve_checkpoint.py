"""Resolves the input `checkpoint` to a model folder: a path, a pattern, a foreign file that is imported, or `auto`."""

from glob import glob
from pathlib import Path

from ..checkpoint.model_folder import ModelFolder, holds_pickled_model, read_model_folder
from ..config.inputs import AUTO, Inputs
from ..errors import CheckpointError
from ..formats.diagnosis import diagnose
from ..formats.import_checkpoint import import_checkpoint
from ..report.log import note, part
from .find_checkpoint import find_checkpoint


def resolve_checkpoint(inputs: Inputs) -> ModelFolder:
    """Raises CheckpointError if `checkpoint` matches several files or is not a usable checkpoint."""
    assert inputs.checkpoint
    if inputs.checkpoint == AUTO:
        return find_checkpoint(inputs)
    return read_or_import(inputs, _single_path(inputs.checkpoint), inputs.output_dir)


def read_or_import(inputs: Inputs, path: Path, output_dir: Path) -> ModelFolder:
    """The model folder at `path`; a foreign file there is imported into `output_dir`. Raises CheckpointError."""
    if holds_pickled_model(path):
        path = diagnose(path, str(path), tokenizer=inputs.tokenizer)
    if not path.is_file():
        return read_model_folder(path)
    with part("Importing"):
        return import_checkpoint(path, output_dir, inputs.tokenizer, note, inputs.n_head)


def _single_path(pattern: str) -> Path:
    if Path(pattern).exists():
        return Path(pattern)
    found = sorted(glob(pattern, recursive=True))  # noqa: PTH207  # Path.glob takes no absolute pattern
    if len(found) > 1:
        shown = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
        raise CheckpointError(
            f"checkpoint: {pattern} matches {len(found)} paths: {shown}. None was used.", "Give the path of one of them."
        )
    return Path(found[0] if found else pattern)
