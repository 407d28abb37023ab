"""The model folder: the format of transformers' `save_pretrained`, in which all parts of this program exchange models.

Reading one validates it: the required files exist, the architecture supports the config, and every tensor has the name and the
shape that the config implies.
"""

import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors import SafetensorError, safe_open

from ..errors import CheckpointError
from ..model import ModelConfig
from .architectures import ARCHITECTURES, Architecture, architecture_of
from .arrays import is_same_tensor
from .metadata import METADATA_FILE, Metadata, read_metadata
from .vocabulary import TOKENIZER_CONFIG_FILE, TOKENIZER_FILE, check_token_ids

CONFIG_FILE, GENERATION_FILE, WEIGHTS_FILE = "config.json", "generation_config.json", "model.safetensors"
PICKLE_FILE = "pytorch_model.bin"  # the weights of older models
INDEX_SUFFIX = ".index.json"  # of a file that lists the shards of the weights
WEIGHTS_FILES = (WEIGHTS_FILE, WEIGHTS_FILE + INDEX_SUFFIX, PICKLE_FILE, PICKLE_FILE + INDEX_SUFFIX)  # transformers' order
TOKENIZER_FILES = (TOKENIZER_FILE, TOKENIZER_CONFIG_FILE)
TRAINING_STATE = "training_state"  # a folder with these files
STATE_FILE, OPTIMIZER_FILE = "state.json", "optimizer.safetensors"
SPARE_FILE = "spare.safetensors"  # tensors of an imported checkpoint that our model does not have
UNTIED_HINT = "A model with an output head of its own can't be trained or published. Use a model that ties its embeddings."
HELD_OUT_FILE = "held_out.safetensors"


@dataclass(frozen=True)
class ModelFolder:
    """A validated model folder. `metadata` is None if another program wrote the folder."""

    path: Path
    config: ModelConfig
    metadata: Metadata | None

    @property
    def step(self) -> int:
        """The number of optimizer steps; 0 if unknown."""
        return self.metadata.step if self.metadata else 0

    @property
    def has_training_state(self) -> bool:
        return (self.path / TRAINING_STATE).is_dir()

    @property
    def architecture(self) -> Architecture:
        return architecture_of(self.config)


def same_model(one: ModelConfig, other: ModelConfig) -> bool:
    """Whether two configs describe the same model. The end-of-text token is not compared: it belongs to the tokenizer."""
    architecture = architecture_of(one)
    write = architecture.config.write_config
    return architecture is architecture_of(other) and write(one, None) == write(other, None)


def holds_pickled_model(folder: Path) -> bool:
    """Whether `folder` is a model folder of transformers with pickled weights."""
    return (folder / CONFIG_FILE).is_file() and (folder / PICKLE_FILE).is_file() and not (folder / WEIGHTS_FILE).exists()


def read_model_folder(path: Path) -> ModelFolder:
    """Read and validate the model folder at `path`. Of the weights, only names and shapes are read.

    Raises CheckpointError, which names everything that is missing or does not match the config.
    """
    if not path.is_dir():
        raise CheckpointError(f"{path} is not a folder.", "Give the path of a folder with config.json in it.")
    missing = [name for name in (CONFIG_FILE, WEIGHTS_FILE, *TOKENIZER_FILES) if not (path / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{path} is not a complete model folder: {', '.join(missing)} missing. It was not used.",
            "A model folder has config.json, model.safetensors, tokenizer.json and tokenizer_config.json.",
        )
    config = read_config(path / CONFIG_FILE)
    _check_shapes(path / WEIGHTS_FILE, config)
    check_token_ids(path, config.vocab_size)
    _check_tied(path / WEIGHTS_FILE, config)
    metadata = read_metadata(path)
    if metadata is None and (path / TRAINING_STATE).is_dir():  # a checkpoint of this program, at an unknown step
        raise CheckpointError(
            f"{path} is not a complete checkpoint: its {METADATA_FILE} is missing or can't be read. It was not used.",
            f"Use another checkpoint, or delete its {TRAINING_STATE} folder to use it as a model without training history.",
        )
    return ModelFolder(path, config, metadata)


def record(folder: ModelFolder, *, overwrite: bool = False, **facts: object) -> ModelFolder:
    """Add facts to the folder's metadata, if it has metadata. Facts that are None are ignored.

    Facts that are recorded already are kept, so deploying twice changes nothing, unless `overwrite` is true. Raises
    CheckpointError if the metadata can't be written.
    """
    known = folder.metadata
    if known is None:
        return folder
    new = {name: fact for name, fact in facts.items() if fact is not None and (overwrite or getattr(known, name) is None)}
    if all(getattr(known, name) == fact for name, fact in new.items()):
        return folder
    metadata = known.model_copy(update=new)
    try:
        metadata.write(folder.path)
    except OSError as error:
        raise CheckpointError(
            f"{folder.path / METADATA_FILE} could not be written: {error}.", "Free disk space, or make the folder writable."
        ) from error
    return replace(folder, metadata=metadata)


def check_weights(folder: ModelFolder) -> None:
    """Raises CheckpointError if the weights do not have the sha256 in the folder's metadata, if it has metadata."""
    if folder.metadata and (found := sha256(folder.path / WEIGHTS_FILE)) != folder.metadata.weights_sha256:
        raise CheckpointError(
            f"{folder.path / WEIGHTS_FILE} is damaged: its sha256 is {found}, the metadata records "
            f"{folder.metadata.weights_sha256}. It was not used.",
            "Use another checkpoint, or pull the model again.",
        )


def sha256(path: Path) -> str:
    """The sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def loadable(folder: ModelFolder) -> Iterator[Path]:
    """The path from which transformers may load the model: the folder, or a temporary copy if the architecture has code files.

    The copy contains our own code: code files in a model folder are untrusted and never run.
    """
    code = folder.architecture.remote_code()
    if not code:
        yield folder.path
        return
    with TemporaryDirectory() as temporary:
        copy = Path(temporary)
        (copy / WEIGHTS_FILE).symlink_to((folder.path / WEIGHTS_FILE).resolve())
        write_json(copy / CONFIG_FILE, folder.architecture.config.write_config(folder.config, None))
        for name, content in code.items():
            (copy / name).write_bytes(content)
        yield copy


def element_count(config: ModelConfig) -> int:
    """The total number of elements of all tensors of this model."""
    return sum(math.prod(shape) for shape in architecture_of(config).config.shapes(config).values())


def read_config(path: Path) -> ModelConfig:
    """The config.json at `path`. Raises CheckpointError if it is not of an architecture that this program has."""
    try:
        values = json.loads(path.read_bytes())
        kind = values["model_type"] if isinstance(values, dict) else None
    except (OSError, ValueError, KeyError, RecursionError) as error:
        raise CheckpointError(f"{path} is not a valid config.json: {error!r}. The folder was not used.") from error
    if not isinstance(kind, str) or kind not in ARCHITECTURES:
        raise CheckpointError(
            f"{path} describes a model that this program can't compute: model_type={kind!r}. It was not used.",
            f"Only {' and '.join(one.display_name for one in ARCHITECTURES.values())} models can be trained and published.",
        )
    return ARCHITECTURES[kind].config.read_config(path, values)


def _check_shapes(path: Path, config: ModelConfig) -> None:
    architecture = architecture_of(config).config
    try:
        with safe_open(path, "numpy") as file:
            stored = architecture.stored_names(file.keys())
            shapes = {name: file.get_slice(key).get_shape() for name, key in stored.items()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} can't be read: {error}. It was not used.", "The file is damaged.") from error
    if (fewest := architecture.fewest_tensors(config)) > len(shapes):  # before the shapes are computed
        raise CheckpointError(
            f"{path} has {len(shapes):,} tensors, and its config.json describes a model of {fewest:,} or more. "
            "It was not used.",
            "Weights and config.json belong to different models. Save the model again, or use another checkpoint.",
        )
    expected = {name: list(shape) for name, shape in architecture.shapes(config).items()}
    allowed = expected | {copy: expected[name] for copy, name in architecture.TIED.items()}
    problems = [f"{name} is missing" for name in expected if name not in shapes]
    problems += [
        f"{name} has shape {shape}, expected {allowed[name]}"
        for name, shape in shapes.items()
        if name in allowed and shape != allowed[name]
    ]
    problems += [
        f"{name} is not a tensor of this model"
        for name in shapes
        if name not in expected and not architecture.is_spare(config, name)
    ]
    if problems:
        shown = "; ".join(problems[:8]) + (f"; and {len(problems) - 8} more" if len(problems) > 8 else "")
        raise CheckpointError(f"{path} does not match its config.json: {shown}. It was not used.")


def _check_tied(path: Path, config: ModelConfig) -> None:
    """Raises CheckpointError if the file has a trained copy of a tensor that the model ties to another one."""
    architecture = architecture_of(config).config
    with safe_open(path, "numpy") as file:
        stored = architecture.stored_names(file.keys())
    for copy, name in architecture.TIED.items():
        if copy in stored and not is_same_tensor(path, stored[copy], stored[name]):
            raise CheckpointError(
                f"{path} has an {copy} that differs from its {name}, but this model ties the two. It was not used.",
                UNTIED_HINT,
            )


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write JSON in the format of all JSON files in a model folder: indented, with sorted keys."""
    path.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8")
