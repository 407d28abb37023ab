"""What a checkpoint records about itself, in the file or in a JSON file beside it: sizes, step, losses, training settings."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from .detect_layout import count, first, number, places
from .torch_file.reader import TorchFile
from .torch_file.stub import name_of

SIZES = ("n_layer", "n_embd", "block_size", "vocab_size")
# The names of a size in nanoGPT, in transformers (also in other models of it), and in other trainers.
_NAMES = {
    "n_layer": ("n_layer", "n_layers", "num_layers", "num_hidden_layers"),
    "n_head": ("n_head", "n_heads", "num_heads", "num_attention_heads"),
    "n_embd": ("n_embd", "n_embed", "d_model", "embed_dim", "hidden_size"),
    "block_size": ("block_size", "n_positions", "n_ctx", "max_position_embeddings"),
    "vocab_size": ("vocab_size",),
}
SIZE_NAMES = frozenset(name for names in _NAMES.values() for name in names)
_LIGHTNING = "hyper_parameters"
_KEYS = ("model_args", "model_config", "config", _LIGHTNING)  # where the layouts store sizes
_GPT2 = "gpt2"  # the model_type of a config of transformers
_OF_A_MODEL = ("model_args", "model_config")  # these describe the model alone; `config` may be all settings of the trainer
_NESTED = ("model", "model_args", "model_config")  # the part of such a config that describes the model
# A setting that only a trainer has: with one, unknown settings need not be of the model.
_OF_A_TRAINER = re.compile(
    r"(lr|\w*learning_rate|(max|min|peak)_lr|\w*batch_size|\w*epochs?|(max|num|n|total)_(iters|steps)|steps|\w*weight_decay|seed"
    r"|beta[s12]|grad_clip|max_grad_norm|optimizer|scheduler|dataset|data_\w+|(train|eval|log|save|wandb|warmup|out|output)_\w+)"
)
_LONGEST_NAME = 100
_MOST_PARTS = 50  # of a config
_LARGEST_JSON = 4 << 20  # bytes
# The settings of a trainer that describe how the model was trained. The others are paths and names on one machine.
_SETTINGS = (
    *("batch_size", "gradient_accumulation_steps", "max_iters", "weight_decay", "beta1", "beta2", "grad_clip", "dtype"),
    *("learning_rate", "decay_lr", "warmup_iters", "lr_decay_iters", "min_lr", "dataset"),
)


@dataclass(frozen=True)
class RecordedConfig:
    """The config that one place records. `where` names the place in messages; `keys` lead to it in the file.

    `of_model` says that it describes the model alone, not a trainer's settings among which the model's are.
    """

    where: str
    values: Mapping[Any, Any]
    keys: tuple[str, ...] = ()
    of_model: bool = False

    def size(self, name: str) -> int | None:
        """A size, under any of its names; None unless it is a positive integer."""
        value = next((self.values[key] for key in _NAMES[name] if key in self.values), None)
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool) and value > 0
        return int(value) if whole else None  # type: ignore[arg-type]

    def agrees(self, sizes: Mapping[str, int]) -> bool:
        """Whether the sizes that it records are these."""
        return all(self.size(name) in (None, sizes[name]) for name in (*SIZES, "n_head"))

    def how_to_remove(self, name: str) -> str:
        """How to remove a setting, for a hint."""
        if not self.keys:
            return f"{name[:60]} from {self.where}"
        inside = "".join(f"[{key!r}]" for key in (*self.keys, name[:60]))
        return f"`c = torch.load(path)`, `del c{inside}`, `torch.save(c, other_path)`"


def configs_in_file(file: TorchFile) -> list[RecordedConfig]:
    """The configs in the file that may record sizes."""
    content = file.content
    found: list[RecordedConfig] = []
    for key in _KEYS:
        found += _recorded(f"its {key}", content.get(key), (key,))
    scalars = {key: value for key, value in content.items() if key not in _KEYS and not isinstance(value, Mapping)}
    found.append(RecordedConfig("its top level", _without_arrays(scalars)))
    metadata = content.get("metadata")
    if isinstance(metadata, Mapping):
        nested = metadata.get("model_config")
        if isinstance(nested, Mapping):
            found += _recorded("its metadata", nested, ("metadata", "model_config"))
        else:
            found.append(RecordedConfig("its metadata", _without_arrays(metadata), ("metadata",)))
    return found


def _recorded(where: str, values: object, keys: tuple[str, ...]) -> list[RecordedConfig]:
    """The config in one place, and the part of it that describes the model, if there is one."""
    if not isinstance(values, Mapping):
        return []
    plain = _settings_in(values)
    named = keys[-1] in _OF_A_MODEL and not _is_of_transformers(plain)
    found = [RecordedConfig(where, plain, keys, named or _is_of_a_model(plain))]
    inside = [(key, inner) for key, inner in plain.items() if isinstance(key, str) and isinstance(inner, Mapping)]
    for key, inner in inside[:_MOST_PARTS] if len(keys) == 1 or keys[0] == _LIGHTNING else ():
        if describes_a_model(key, inner):
            settings = _settings_in(inner)
            found.append(RecordedConfig(f"{where}[{key[:60]!r}]", settings, (*keys, key), _is_of_a_model(settings)))
        elif keys == (_LIGHTNING,):  # all settings under the name of an argument, as Hydra's `cfg`
            found += _recorded(f"{where}[{key[:60]!r}]", inner, (*keys, key))
    return found


def is_group(value: object) -> bool:
    """Whether a setting is a dict of settings. An object of another class is a value."""
    return isinstance(value, Mapping) and name_of(value) is None


def describes_a_model(key: str, part: object) -> bool:
    """Whether this part of a config is that of the model, which is a place of its own."""
    return isinstance(part, Mapping) and (key in _NESTED or bool(SIZE_NAMES & part.keys()))


def _is_of_a_model(settings: Mapping[Any, Any]) -> bool:
    """Whether they are a model's alone, and this program knows all that change its computation."""
    names = [key for key in settings if isinstance(key, str) and len(key) <= _LONGEST_NAME]
    if _is_of_transformers(settings) or any(map(_OF_A_TRAINER.fullmatch, names)):
        return False
    return bool(SIZE_NAMES & settings.keys())


def _is_of_transformers(settings: Mapping[Any, Any]) -> bool:
    """Whether transformers wrote the config of a GPT-2: its settings are known, and all are checked by `read_config`."""
    of_any_version = {"n_positions", "attn_pdrop"} <= settings.keys()  # those of before 2020 have no version
    return settings.get("model_type", _GPT2) == _GPT2 and ("transformers_version" in settings or of_any_version)


def _settings_in(values: Mapping[Any, Any]) -> dict[Any, Any]:
    """The settings of a config. A GPT2Config of transformers, an object, is as its `to_dict()`, with its `model_type`."""
    plain = _without_arrays(values)
    if name_of(values) == "transformers.models.gpt2.configuration_gpt2.GPT2Config":
        public = {key: value for key, value in plain.items() if not str(key).startswith("_")}
        return public | {"model_type": _GPT2}
    return plain


def _without_arrays(values: Mapping[Any, Any]) -> dict[Any, Any]:
    """`values` without arrays, which are never settings: a comparison with one would return an array, not a bool."""
    return {key: value for key, value in values.items() if not (isinstance(value, np.ndarray) and value.ndim)}


def configs_beside(path: Path) -> list[RecordedConfig]:
    """The JSON files beside `path` that describe a GPT-2, the most trustworthy first."""
    found = []
    for name in ("model_config.json", "training_metadata.json", "config.json"):
        values = read_json(path.parent / name)
        nested = values.get("model_config")
        described = RecordedConfig(f"{name} beside it", nested if isinstance(nested, Mapping) else values)
        if described.size("n_head"):
            found.append(described)
    return found


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; empty if it is missing, too large or not an object."""
    try:
        values = json.loads(path.read_bytes()) if path.stat().st_size <= _LARGEST_JSON else None
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def training_settings(settings: object) -> dict[str, Any]:
    """The settings of a trainer that are kept, under nanoGPT's names."""
    plain = settings if isinstance(settings, Mapping) else {}
    kept = {name: plain[name] for name in _SETTINGS if isinstance(plain.get(name), bool | int | float | str)}
    if _is_place(kept.get("dataset")):
        del kept["dataset"]
    return kept


def _is_place(dataset: object) -> bool:
    """Whether a dataset is given as a place on one machine, which is nobody else's business."""
    if not isinstance(dataset, str):
        return False
    return dataset.startswith(("~", ".")) or PurePosixPath(dataset).is_absolute() or PureWindowsPath(dataset).is_absolute()


def step_of(file: TorchFile) -> int | None:
    """The number of optimizer steps, None if it is not recorded. Raises CheckpointError if it is not a valid count."""
    recorded = first(places(file.content), ("iter_num", "iteration", "global_step", "step", "current_iteration"))
    if recorded is None:
        return None
    step = count(recorded)
    if step is None:
        file.refuse(
            "has a step that is not a valid step count", "Set it to the number of optimizer steps in a copy of the file."
        )
    return step


def losses_of(file: TorchFile) -> tuple[float | None, float | None]:
    """(training loss, lowest validation loss), as recorded. `loss` is the training loss."""
    found = places(file.content)
    return number(first(found, ("train_loss", "loss"))), number(first(found, ("best_val_loss", "val_loss")))
