"""Reads a GPT-2 in any form in which transformers saves a folder: config.json with the weights in one file or in shards, as
safetensors or pickled, in fp32 or 16 bits. No code in a pickle is run.

Only the folders of this program and of current versions are model folders (checkpoint/model_folder.py); what is on the Hub is
often older.
"""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NoReturn

from safetensors import SafetensorError, safe_open

from ..checkpoint.arrays import Array, as_array, type_name
from ..checkpoint.gpt2_config import HEAD, POSITIONS, TOKENS, read_config, shapes
from ..checkpoint.metadata import METADATA_FILE
from ..checkpoint.model_folder import CONFIG_FILE, PICKLE_FILE, TOKENIZER_FILES, WEIGHTS_FILE
from ..corpus.vocab_merges import VOCABULARY_FILES
from ..errors import CheckpointError
from ..model.config import GPT2Config
from .gpt2_tensors import logits, tensors_by_gpt2_name
from .imported_model import ImportedModel, check_weights, tie
from .recorded_config import read_json
from .registry import Origin
from .torch_file.archive import refuse
from .torch_file.reader import read_torch_file

_INDEX = ".index.json"
_WEIGHTS = (WEIGHTS_FILE, WEIGHTS_FILE + _INDEX, PICKLE_FILE, PICKLE_FILE + _INDEX)  # the first that exists is read
_SHARD = re.compile(r"(model|pytorch_model)-\d{5}-of-\d{5}\.(safetensors|bin)")
_FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}  # safetensors' names, and PyTorch's


@dataclass(frozen=True)
class _Weights:
    """The tensors of all files, for the checks of formats/. `dtypes` are PyTorch's names of their dtypes in the files."""

    path: Path
    weights: Mapping[str, Array]
    dtypes: frozenset[str]

    def refuse(self, why: str, *hint: str) -> NoReturn:
        refuse(self.path, why, *hint)

    def release(self) -> None:
        """Nothing to release: the tensors are in memory, or mapped by PyTorch."""


def files_to_read(names: Collection[str]) -> list[str]:
    """Of the files of a repo, those that `read_pretrained_config`, `read_folder` and the tokenizer need."""
    first = next((name for name in _WEIGHTS if name in names), None)
    wanted = [CONFIG_FILE, *TOKENIZER_FILES, *VOCABULARY_FILES, METADATA_FILE]
    if first:
        wanted.append(first)
        if first.endswith(_INDEX):
            stem, suffix = Path(first.removesuffix(_INDEX)).stem, Path(first.removesuffix(_INDEX)).suffix
            wanted += [
                name for name in names if _SHARD.fullmatch(name) and name.startswith(f"{stem}-") and name.endswith(suffix)
            ]
    return [name for name in wanted if name in names]


def read_pretrained_config(folder: Path) -> GPT2Config:
    """The config of the GPT-2 in `folder`. Raises CheckpointError if it is another model, or one that can't be computed."""
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise CheckpointError(
            f"{folder} has no {CONFIG_FILE}, so it is not a model of transformers. It was not used.",
            "Give a folder or a repo with config.json, weights and a tokenizer, as save_pretrained writes them.",
        )
    values = read_json(path)
    kind = values.get("model_type")
    if kind != "gpt2":
        raise CheckpointError(
            f"{path} describes a model of another architecture: model_type={kind!r:.60}. It was not used.",
            "Only GPT-2 models can be trained: use openai-community/gpt2, distilbert/distilgpt2, or another model whose "
            "config.json has model_type: gpt2.",
        )
    # a head of its own is compared with the embedding when the weights are read
    return read_config(path, values | {"tie_word_embeddings": True})


def read_folder(folder: Path, config: GPT2Config) -> ImportedModel:
    """The model in `folder`. Raises CheckpointError if a tensor is missing, unexpected or invalid, or if its output head is
    not its token embedding."""
    file = _read_weights(folder)
    stored = tensors_by_gpt2_name(file)
    values = read_json(folder / CONFIG_FILE)
    if values.get("tie_word_embeddings") is False and not {HEAD, TOKENS} <= stored.keys():
        file.refuse(f"must have both {HEAD} and {TOKENS}, because its {CONFIG_FILE} has tie_word_embeddings: false")
    tie(file, stored, TOKENS)
    if not config.bias:  # transformers' GPT-2 has biases, so this program stores zeros
        stored = {name: array for name, array in stored.items() if not (name.endswith(".bias") and not array.any())}
    weights = check_weights(file, stored, shapes(config), CONFIG_FILE)
    other = sorted(file.dtypes - {"float32"})
    remarks = (f"its weights are stored in {' and '.join(other)}; they were converted to float32",) if other else ()
    return ImportedModel(
        Origin(file.path, "transformers", ""),
        config,
        weights,
        partial(logits, config, weights, False),
        remarks=remarks,
    )


def cropped(source: ImportedModel, block_size: int) -> ImportedModel:
    """The same model with a context of only the first `block_size` positions: for these it computes the same logits."""
    assert isinstance(source.config, GPT2Config)
    weights = {name: array[:block_size] if name == POSITIONS else array for name, array in source.weights.items()}
    return replace(source, config=replace(source.config, block_size=block_size), weights=weights)


def _read_weights(folder: Path) -> _Weights:
    path = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
    if path is None:
        raise CheckpointError(
            f"{folder} has no weights: none of {', '.join(_WEIGHTS)}. It was not used.",
            "Save the model with save_pretrained, or use another one. Weights of TensorFlow, Flax and GGUF are not read.",
        )
    files = _shards(path) if path.name.endswith(_INDEX) else [path]
    weights: dict[str, Array] = {}
    dtypes: set[str] = set()
    for file in files:
        found = _read_safetensors(file, dtypes) if file.suffix == ".safetensors" else _read_pickled(file, dtypes)
        if twice := sorted(found.keys() & weights.keys()):
            refuse(path, f"has {twice[0][:100]} in two shards")
        weights |= found
    return _Weights(path, weights, frozenset(dtypes))


def _shards(index: Path) -> list[Path]:
    """The shards that `index` lists. A name in it is untrusted: it must not lead out of the folder."""
    try:
        names = sorted({str(name) for name in json.loads(index.read_bytes())["weight_map"].values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        refuse(index, f"can't be read as an index of shards ({type(error).__name__})")
    wrong = [name for name in names if not _SHARD.fullmatch(name)]
    if wrong:
        refuse(index, f"lists {wrong[0]!r:.100}, which is not the name of a shard")
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        refuse(index, f"lists {len(names)} shards, and {len(missing)} are missing: {', '.join(missing[:3])}")
    return [index.parent / name for name in names]


def _read_safetensors(path: Path, dtypes: set[str]) -> dict[str, Array]:
    found: dict[str, Array] = {}
    try:
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118  # not a dict
                dtype = file.get_slice(name).get_dtype()
                if dtype not in _FLOATS:  # a mask buffer; of another tensor the check says that it is missing
                    continue
                found[name] = as_array(file.get_tensor(name))
                dtypes.add(_FLOATS[dtype])
    except (OSError, SafetensorError) as error:
        refuse(path, f"can't be read ({' '.join(str(error).split())[:200]})")
    return found


def _read_pickled(path: Path, dtypes: set[str]) -> dict[str, Array]:
    weights = read_torch_file(path).weights
    dtypes.update(type_name(array).removeprefix("torch.") for array in weights.values() if array.dtype.kind in "fV")
    return weights
