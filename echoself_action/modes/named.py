"""The checkpoint that `checkpoint` names: a model folder, or a foreign file that becomes one in output_dir."""

from glob import glob
from pathlib import Path

from ..checkpoint.folder import ModelFolder, read_model_folder
from ..errors import CheckpointError
from ..inputs import Inputs
from ..report.log import note, part
from ..training.imports import import_checkpoint


def named_checkpoint(inputs: Inputs) -> ModelFolder:
    """Raises CheckpointError where `checkpoint` is not one thing, or not one that can be used."""
    assert inputs.checkpoint
    path = _only(inputs.checkpoint)
    if not path.is_file():
        return read_model_folder(path)
    with part("Importing"):
        return import_checkpoint(path, inputs.output_dir, inputs.tokenizer, note)


def _only(pattern: str) -> Path:
    if Path(pattern).exists():
        return Path(pattern)
    found = sorted(glob(pattern, recursive=True))  # noqa: PTH207  # Path.glob takes no absolute pattern
    if len(found) > 1:
        shown = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
        raise CheckpointError(f"checkpoint: {pattern} matches {len(found)}: {shown}. None was used.", "Name one of them.")
    return Path(found[0] if found else pattern)
