"""Imports a folder of another program: a GPT-2 as transformers or its Trainer saves it, with the tokenizer of the model."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ..checkpoint.architectures import NANECHO
from ..checkpoint.metadata import read_metadata
from ..checkpoint.model_folder import CONFIG_FILE, TRAINING_STATE, ModelFolder, holds_pickled_model
from ..errors import CheckpointError, InputError
from .diagnose_pickled_folder import diagnose_pickled_folder
from .import_checkpoint import import_model
from .recorded_config import read_json
from .transformers_config import read_pretrained_config
from .transformers_folder import as_checkpoint, read_folder


@dataclass(frozen=True)
class Download:
    """A folder that was downloaded for the import: its `name` for messages, and the `command` that downloads it to `saved`."""

    name: str
    command: str
    saved: str


def import_folder(
    folder: Path, output_dir: Path, tokenizer: str | None, note: Callable[[str], None], download: Download | None = None
) -> ModelFolder:
    """Import the GPT-2 in `folder`, which another program wrote, as `checkpoint-<step>` in `output_dir`.

    `tokenizer` is a spec for a folder without a tokenizer. Raises CheckpointError if the model can't be used, InputError if
    `tokenizer` is not the tokenizer of the model.
    """
    if download is None:
        return _import(folder, output_dir, tokenizer, note)

    def named(text: str) -> str:
        return text.replace(str(folder), download.name)

    try:
        return _import(folder, output_dir, tokenizer, lambda text: note(named(text)), download)
    except (CheckpointError, InputError) as error:
        raise type(error)(named(error.message), named(error.hint)) from None


def _import(
    folder: Path, output_dir: Path, tokenizer: str | None, note: Callable[[str], None], download: Download | None = None
) -> ModelFolder:
    config = read_pretrained_config(folder)
    if holds_pickled_model(folder):
        name, command, saved = (download.name, download.command, download.saved) if download else (str(folder), "", "")
        diagnose_pickled_folder(folder, name, command, saved, tokenizer)
    source = as_checkpoint(read_folder(folder, config))
    if download:
        source = replace(source, origin=replace(source.origin, name=download.name))
    return import_model(source, output_dir, tokenizer, note)


def is_own(folder: Path) -> bool:
    """Whether `folder` is a model folder of this program, or what is left of one."""
    if read_metadata(folder) or (folder / TRAINING_STATE).is_dir():
        return True
    return read_json(folder / CONFIG_FILE).get("model_type") == NANECHO.name  # transformers has no such model
