"""Writes a model for other programs (`formats`): what that needs is checked before any work, and a format is written with all
its files or not at all."""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...checkpoint.architectures import architecture_of
from ...checkpoint.atomic import TEMPORARY_PREFIX
from ...checkpoint.metadata import ExportFacts
from ...checkpoint.model_folder import ModelFolder, element_count
from ...corpus.make_tokenizer import load_tokenizer
from ...corpus.tokenizer import Tokenizer
from ...errors import CheckpointError, EchoselfError
from ...model import ModelConfig
from ...resources import available_memory, free_disk, size_text
from ...workspace import create_output_dir
from ..registry import Exported
from .runtime_formats import PUBLISHED, RuntimeFormat

_OVERHEAD = 10_000_000  # bytes of a file beside the weights, at most: the vocabulary
_IN_MEMORY = 4  # sizes of the largest file, in both programs together while it is checked: measured 4 to 5 with its pages


@dataclass(frozen=True)
class Export:
    """The files of a format in output_dir, and how its program computes them: no facts of a format that is not checked."""

    exported: Exported
    facts: tuple[ExportFacts, ...] = ()


def selected(formats: Sequence[str]) -> list[RuntimeFormat]:
    """Those of the input that programs run, in the order of the registry."""
    return [one for name, one in PUBLISHED.items() if name in formats]


def require_folder_exportable(formats: Sequence[RuntimeFormat], folder: ModelFolder, output_dir: Path) -> None:
    """As `require_exportable`, for the model in `folder`."""
    if formats:
        require_exportable(formats, folder.config, output_dir, load_tokenizer(folder.path), folder.path)


def require_exportable(
    formats: Sequence[RuntimeFormat],
    config: ModelConfig,
    output_dir: Path,
    tokenizer: Tokenizer | None = None,
    place: Path | None = None,
) -> None:
    """Raises CheckpointError if a model of this configuration and tokenizer can't be exported to one of `formats`.

    The sizes of the files, the disk and the memory are compared with estimates. `place` is the folder of the model, for
    messages; a new one has none. Without `tokenizer` it is not checked.
    """
    architecture, parameters = architecture_of(config), element_count(config)
    for one in formats:
        leave = f"Leave {one.name} out of formats."
        if architecture.name not in one.architectures:
            raise CheckpointError(
                f"formats: {one.name} can't hold this model: {one.display_name} can't compute the architecture "
                f"{architecture.display_name}. Nothing was exported.",
                leave,
            )
        if tokenizer:
            one.require_tokenizer(tokenizer, config.vocab_size, place or output_dir)
        largest = parameters * max(one.bytes_per_parameter)
        if largest + _OVERHEAD > one.largest_file:
            raise CheckpointError(
                f"formats: {one.name} can't hold this model of {parameters:,} parameters: its largest file would have about "
                f"{size_text(largest)}, and {one.largest_file_reason} of at most {size_text(one.largest_file)}. Nothing was "
                "exported.",
                leave,
            )
        needed = _IN_MEMORY * largest
        if needed > (free := available_memory()):
            raise CheckpointError(
                f"formats: {one.name} needs about {size_text(needed)} of memory for this model of {parameters:,} parameters, "
                f"and {size_text(free)} are available. Nothing was exported.",
                f"Use a machine with more memory. {leave}",
            )
    if (total := export_size(formats, config)) > (free := free_disk(output_dir)):
        raise CheckpointError(
            f"formats: the exports of this model of {parameters:,} parameters need about {size_text(total)} of disk in "
            f"{output_dir}, and {size_text(free)} are free. Nothing was exported.",
            "Free disk space, set another output_dir, or use fewer formats.",
        )


def export_size(formats: Sequence[RuntimeFormat], config: ModelConfig) -> float:
    """About how many bytes the files of `formats` have together."""
    return element_count(config) * sum(sum(one.bytes_per_parameter) for one in formats)


def export(
    one: RuntimeFormat,
    folder: ModelFolder,
    output_dir: Path,
    check: Callable[[RuntimeFormat, ModelFolder, Exported], tuple[ExportFacts, ...]],
) -> Export:
    """Write the files of a format below `output_dir`, after they have passed `check` in a temporary folder there.

    Raises CheckpointError if one of them can't be written, or as `RuntimeFormat.export` and `check` do. None is left behind
    then, and those of an earlier export stay.
    """
    place = output_dir / one.name
    try:
        create_output_dir(output_dir)
        aside = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY_PREFIX}{one.name}-", dir=output_dir))
    except OSError as error:
        raise _not_written(place, error) from error

    def named(text: str) -> str:
        return text.replace(str(aside), str(output_dir))

    try:
        try:
            exported = one.export(folder, aside)
        except OSError as error:
            raise _not_written(place, error) from error
        facts = check(one, folder, exported)
        try:
            moved = {path: output_dir / path.relative_to(aside) for path in sorted(aside.rglob("*")) if path.is_file()}
            for path, final in moved.items():
                final.parent.mkdir(parents=True, exist_ok=True)
                path.replace(final)
        except OSError as error:
            raise _not_written(place, error) from error
    except EchoselfError as error:
        error.message, error.hint = named(error.message), named(error.hint)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return Export(
        replace(
            exported,
            path=output_dir / exported.path.relative_to(aside),
            command=named(exported.command),
            files={name: moved[path] for name, path in exported.files.items()},
        ),
        facts,
    )


def _not_written(place: Path, error: OSError) -> CheckpointError:
    reason = error.strerror or f"not all of a file was written ({error})"  # NumPy's own error has no number
    return CheckpointError(
        f"{place} could not be written: {reason}. Nothing was exported.",
        "Free disk space, or set another output_dir that can be written to.",
    )
