"""The checkpoint that `checkpoint` names: a model folder, a foreign file that becomes one, or what `auto` finds."""

from glob import glob
from pathlib import Path

from ..checkpoint.model_folder import ModelFolder, holds_pickled_model, read_model_folder
from ..config.inputs import AUTO, Inputs
from ..errors import CheckpointError
from ..report.log import note, part


def named_checkpoint(inputs: Inputs) -> ModelFolder:
    """Raises CheckpointError where `checkpoint` is not one thing, or not one that can be used."""
    assert inputs.checkpoint
    if inputs.checkpoint == AUTO:
        from .find_checkpoint import discover  # reads foreign files, with PyTorch

        return discover(inputs)
    return local_checkpoint(inputs, _only(inputs.checkpoint), inputs.output_dir)


def local_checkpoint(inputs: Inputs, path: Path, output_dir: Path) -> ModelFolder:
    """The model folder at `path`, or what becomes of a foreign file there, in `output_dir`. Raises CheckpointError."""
    if holds_pickled_model(path):
        from ..formats.diagnosis import diagnose  # with PyTorch, which our own folders can do without

        path = diagnose(path, str(path), tokenizer=inputs.tokenizer)
    if not path.is_file():
        return read_model_folder(path)
    from ..formats.import_checkpoint import import_checkpoint  # likewise

    with part("Importing"):
        return import_checkpoint(path, output_dir, inputs.tokenizer, note, inputs.n_head)


def _only(pattern: str) -> Path:
    if Path(pattern).exists():
        return Path(pattern)
    found = sorted(glob(pattern, recursive=True))  # noqa: PTH207  # Path.glob takes no absolute pattern
    if len(found) > 1:
        shown = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
        raise CheckpointError(f"checkpoint: {pattern} matches {len(found)}: {shown}. None was used.", "Name one of them.")
    return Path(found[0] if found else pattern)
