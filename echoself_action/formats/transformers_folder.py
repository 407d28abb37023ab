"""Reads a GPT-2 in any form in which transformers saves a folder: config.json with the weights in one file or in shards, as
safetensors or pickled, in fp32 or 16 bits. No code in a pickle is run.

Only the folders of this program are model folders (checkpoint/model_folder.py); all others become one by an import.
"""

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np
from safetensors import SafetensorError, safe_open

from ..checkpoint.arrays import Array, as_array, type_name
from ..checkpoint.gpt2_config import HEAD, POSITIONS, TOKENS, fewest_tensors, shapes
from ..checkpoint.metadata import METADATA_FILE
from ..checkpoint.model_folder import (
    CONFIG_FILE,
    GENERATION_FILE,
    INDEX_SUFFIX,
    PICKLE_FILE,
    TOKENIZER_FILES,
    UNTIED_HINT,
    WEIGHTS_FILE,
    WEIGHTS_FILES,
)
from ..corpus.vocab_merges import VOCABULARY_FILES
from ..errors import CheckpointError
from ..model.config import GPT2Config
from .gpt2_tensors import BUFFERS, logits, tensors_by_gpt2_name
from .imported_model import ImportedModel, check_weights, tie
from .recorded_config import read_json
from .registry import PREFIXES, Origin
from .torch_file.archive import refuse
from .torch_file.reader import read_torch_file
from .transformers_config import ADAPTER_FILE, read_remarked_config

FOLDER, TRAINER_CHECKPOINT = "transformers", "transformers Trainer"  # layouts
SPECIAL_TOKENS_FILE, TRAINER_STATE_FILE = "special_tokens_map.json", "trainer_state.json"
_SHARD = re.compile(r"(model|pytorch_model)-\d{5}-of-\d{5}\.(safetensors|bin)")
_FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}  # safetensors' names, and PyTorch's
_OPTIMIZER_FILE = "optimizer.pt"  # of transformers' Trainer
_LARGEST_JSON = 64 << 20  # bytes; trainer_state.json has an entry for each logged step
# Settings of generation_config.json that an import writes itself, that name a version, or that change no text.
_GENERATION_KEPT = {
    *("bos_token_id", "eos_token_id", "pad_token_id", "do_sample", "transformers_version", "_from_model_config", "use_cache"),
    *("max_new_tokens", "output_attentions", "output_hidden_states"),
}
# Files of other programs, and what to do to get a folder that can be read.
_ELSEWHERE = {
    "tf_model.h5": "Convert the weights of TensorFlow to PyTorch with transformers 4: from_pretrained(folder, from_tf=True)",
    "flax_model.msgpack": "Convert the weights of Flax to PyTorch with transformers 4: from_pretrained(folder, from_flax=True)",
    "*.gguf": "Use the model that the GGUF file was made from",
    "*.onnx": "Use the model that was exported to ONNX",
    "global_step*": "Merge the weights of DeepSpeed with its zero_to_fp32.py, into model.safetensors",
    "pytorch_model_fsdp_*": "Merge the shards of FSDP with `accelerate merge-weights`, into model.safetensors",
    "model-*-of-*.safetensors": f"Copy {WEIGHTS_FILE}{INDEX_SUFFIX} too: it lists the shards",
    "pytorch_model-*-of-*.bin": f"Copy {PICKLE_FILE}{INDEX_SUFFIX} too: it lists the shards",
}


@dataclass(frozen=True)
class _Weights:
    """The tensors of all files, for the checks of formats/. `dtypes` are PyTorch's names of their dtypes in the files."""

    path: Path
    weights: Mapping[str, Array]
    dtypes: frozenset[str]

    def refuse(self, why: str, *hint: str) -> NoReturn:
        _refuse(self.path, why, *hint)

    def release(self) -> None:
        """Nothing to release: the tensors are in memory, or mapped by PyTorch."""


def files_to_read(names: Collection[str]) -> list[str]:
    """Of the files of a repo, those that `read_pretrained_config`, `read_folder` and the tokenizer need; the weights last."""
    first = next((name for name in WEIGHTS_FILES if name in names), None)
    wanted = [CONFIG_FILE, ADAPTER_FILE, *TOKENIZER_FILES, *VOCABULARY_FILES, SPECIAL_TOKENS_FILE, GENERATION_FILE]
    wanted.append(METADATA_FILE)
    if first:
        wanted.append(first)
        if first.endswith(INDEX_SUFFIX):
            stem, suffix = Path(first.removesuffix(INDEX_SUFFIX)).stem, Path(first.removesuffix(INDEX_SUFFIX)).suffix
            wanted += [
                name for name in names if _SHARD.fullmatch(name) and name.startswith(f"{stem}-") and name.endswith(suffix)
            ]
    return [name for name in wanted if name in names]


def read_folder(folder: Path, config: GPT2Config) -> ImportedModel:
    """The model in `folder`. Raises CheckpointError if a tensor is missing, unexpected or invalid, or if its output head is
    not its token embedding."""
    file = _read_weights(folder)
    stored = tensors_by_gpt2_name(file)
    values = read_json(folder / CONFIG_FILE)
    if values.get("tie_word_embeddings") is False and not {HEAD, TOKENS} <= stored.keys():
        file.refuse(f"must have both {HEAD} and {TOKENS}, because its {CONFIG_FILE} has tie_word_embeddings: false")
    if HEAD in stored and TOKENS in stored and not np.array_equal(stored[HEAD], stored[TOKENS]):
        file.refuse(f"has an {HEAD} that differs from its {TOKENS}, but this model ties the two", UNTIED_HINT)
    tie(file, stored, TOKENS)
    if not config.bias:  # transformers' GPT-2 has biases, so this program stores zeros
        if any(array.any() for name, array in stored.items() if name.endswith(".bias")):
            config = replace(config, bias=True)  # transformers does not know that setting
        else:
            stored = {name: array for name, array in stored.items() if not name.endswith(".bias")}
    if (fewest := fewest_tensors(config)) > len(stored):  # before the shapes are computed
        file.refuse(f"has {len(stored):,} tensors, and its {CONFIG_FILE} describes a model of {fewest:,} or more")
    weights = check_weights(file, stored, shapes(config), CONFIG_FILE)
    remarks = list(read_remarked_config(folder)[1])
    if generation := sorted(read_json(folder / GENERATION_FILE).keys() - _GENERATION_KEPT):
        remarks.append(f"not kept of its {GENERATION_FILE}: {', '.join(generation)[:200]}")
    if other := sorted(file.dtypes - {"float32"}):
        remarks.append(f"its weights are stored in {' and '.join(other)}; they were converted to float32")
    origin = Origin(file.path, FOLDER, "", f"{folder.resolve().name}/{file.path.name}")
    return ImportedModel(origin, config, weights, partial(logits, config, weights, False), remarks=tuple(remarks))


def as_checkpoint(source: ImportedModel) -> ImportedModel:
    """`source`, of `read_folder`, as a checkpoint to resume from: with the step that transformers' Trainer recorded, and the
    fingerprint of its files, which are hashed."""
    folder, digest = source.origin.path.parent, hashlib.sha256()
    for path in dict.fromkeys((folder / CONFIG_FILE, source.origin.path, *_files(source.origin.path))):
        with path.open("rb") as file:
            digest.update(f"{path.name}\0".encode() + hashlib.file_digest(file, "sha256").digest())
    step, remarks = _trainer_step(folder)
    digest.update(f"step {step}".encode())
    layout = FOLDER if step is None else TRAINER_CHECKPOINT
    origin = replace(source.origin, layout=layout, fingerprint=digest.hexdigest())
    return replace(source, origin=origin, step=step or 0, remarks=(*source.remarks, *remarks))


def _trainer_step(folder: Path) -> tuple[int | None, list[str]]:
    """The step that transformers' Trainer recorded, None if it recorded none, and what to remark about it."""
    path = folder / TRAINER_STATE_FILE
    if not path.is_file():
        return None, []
    try:
        state = json.loads(path.read_bytes()) if path.stat().st_size <= _LARGEST_JSON else None
        step = state["global_step"]  # type: ignore[index]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        step = None
    if type(step) is not int or not 0 <= step < 1 << 53:
        return None, [f"its {TRAINER_STATE_FILE} has no valid global_step, so its steps count from 0"]
    remark = f"optimizer state not imported: {_OPTIMIZER_FILE} of transformers' Trainer does not name the parameters"
    return step, [remark] if (folder / _OPTIMIZER_FILE).is_file() else []


def cropped(source: ImportedModel, block_size: int) -> ImportedModel:
    """The same model with a context of only the first `block_size` positions: for these it computes the same logits."""
    assert isinstance(source.config, GPT2Config)
    weights = {name: array[:block_size] if name == POSITIONS else array for name, array in source.weights.items()}
    return replace(source, config=replace(source.config, block_size=block_size), weights=weights)


def _read_weights(folder: Path) -> _Weights:
    path = next((folder / name for name in WEIGHTS_FILES if (folder / name).is_file()), None)
    if path is None:
        beside = {name: hint for name, hint in _ELSEWHERE.items() if next(folder.glob(name), None)}
        raise CheckpointError(
            f"{folder} has no weights that can be read: none of {', '.join(WEIGHTS_FILES)}"
            f"{f', but {next(iter(beside))}' if beside else ''}. It was not used.",
            f"{next(iter(beside.values()), 'Save the model with save_pretrained, or use another one')}.",
        )
    files = _files(path)
    weights: dict[str, Array] = {}
    dtypes: set[str] = set()
    for file in files:
        found = _read_safetensors(file, dtypes) if file.suffix == ".safetensors" else _read_pickled(file, dtypes)
        if twice := sorted(found.keys() & weights.keys()):
            _refuse(path, f"has {twice[0][:100]} in two shards")
        weights |= found
    return _Weights(path, weights, frozenset(dtypes))


def _files(path: Path) -> list[Path]:
    """The files with the weights: `path`, or the shards that it lists."""
    return _shards(path) if path.name.endswith(INDEX_SUFFIX) else [path]


def _shards(index: Path) -> list[Path]:
    """The shards that `index` lists. A name in it is untrusted: it must not lead out of the folder."""
    try:
        content = index.read_bytes() if index.stat().st_size <= _LARGEST_JSON else b"null"
        names = sorted({str(name) for name in json.loads(content)["weight_map"].values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        refuse(index, f"can't be read as an index of shards ({type(error).__name__})")
    wrong = [name for name in names if not _SHARD.fullmatch(name)]
    if wrong:
        _refuse(index, f"lists {wrong[0]!r:.100}, which is not the name of a shard")
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        refuse(index, f"lists {len(names)} shards, of which some are missing: {', '.join(missing[:3])}{more}", "Copy them too.")
    return [index.parent / name for name in names]


def _read_safetensors(path: Path, dtypes: set[str]) -> dict[str, Array]:
    found: dict[str, Array] = {}
    try:
        with safe_open(path, "pt") as file:
            for name, key in _without_prefixes(path, file.keys()).items():
                dtype = file.get_slice(key).get_dtype()
                if name.endswith(BUFFERS):
                    continue
                if dtype not in _FLOATS:
                    _refuse(path, f"has {name[:100]} of type {dtype}, which is not a floating-point type: it may be quantized")
                found[name] = as_array(file.get_tensor(key))
                dtypes.add(_FLOATS[dtype])
    except (OSError, SafetensorError) as error:
        refuse(path, f"can't be read ({' '.join(str(error).split())[:200]})")
    return found


def _without_prefixes(path: Path, keys: Iterable[str]) -> dict[str, str]:
    """Each tensor's name without what torch.compile and DistributedDataParallel put before it -> its name in the file."""
    found: dict[str, str] = {}
    for key in keys:
        name = key
        while prefix := next((prefix for prefix in PREFIXES if name.startswith(prefix)), ""):
            name = name.removeprefix(prefix)
        if name in found:
            _refuse(path, f"has two tensors named {name[:100]}")
        found[name] = key
    return found


def _read_pickled(path: Path, dtypes: set[str]) -> dict[str, Array]:
    weights = read_torch_file(path).weights
    dtypes.update(type_name(array).removeprefix("torch.") for array in weights.values() if array.dtype.kind in "fV")
    return weights


def _refuse(path: Path, why: str, *hint: str) -> NoReturn:
    """Refuse a file that is intact, but not what its config.json describes."""
    refuse(path, why, *(hint or ("Save the model again with save_pretrained of transformers, or use another one.",)))
