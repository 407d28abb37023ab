"""What the Hub reads from the files of a model: the configuration of Transformers, the tokenizer, and safetensors headers."""

import json
import math
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import pygit2

from .lfs import object_path
from .repository import Repository
from .tree import Entry, find_entry

Json = dict[str, Any]
MAX_JSON_FILE = 1024 * 1024  # bytes; larger files are not read
MAX_HEADER = 16 * 1024 * 1024  # bytes of a safetensors header
MAX_PARAMETERS = 2**53  # larger numbers are not exact in JavaScript
MAX_DIMENSIONS = 64
_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
_CONFIG = ("architectures", "model_type", "auto_map", "quantization_config")
_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token", "chat_template")
# the class of Transformers and the task, by the end of an architecture's name
_AUTO_CLASSES = {
    "ForCausalLM": ("AutoModelForCausalLM", "text-generation"),
    "LMHeadModel": ("AutoModelForCausalLM", "text-generation"),
    "ForMaskedLM": ("AutoModelForMaskedLM", "fill-mask"),
    "ForSequenceClassification": ("AutoModelForSequenceClassification", "text-classification"),
    "ForTokenClassification": ("AutoModelForTokenClassification", "token-classification"),
    "ForQuestionAnswering": ("AutoModelForQuestionAnswering", "question-answering"),
    "ForImageClassification": ("AutoModelForImageClassification", "image-classification"),
}


def read_config(repository: Repository, commit: pygit2.Commit) -> Json | None:
    """The part of `config.json` and `tokenizer_config.json` that the Hub shows; None without a valid `config.json`."""
    whole = _read_json(repository, commit, "config.json")
    if not whole:
        return None
    config = {key: whole[key] for key in _CONFIG if key in whole}
    tokenizer = _read_json(repository, commit, "tokenizer_config.json")
    if shown := {key: tokenizer[key] for key in _TOKENS if tokenizer.get(key) is not None}:
        config["tokenizer_config"] = shown
    return config


def mask_token(config: Json | None) -> str | None:
    token = ((config or {}).get("tokenizer_config") or {}).get("mask_token")
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) else None


def transformers_info(config: Json | None) -> Json | None:
    """Which class of Transformers loads the model; None if its configuration names no architecture."""
    architectures = (config or {}).get("architectures")
    if not config or not isinstance(architectures, list) or not architectures or not isinstance(architectures[0], str):
        return None
    info: Json = {"auto_model": "AutoModel"}
    for end, (auto_model, task) in _AUTO_CLASSES.items():
        if architectures[0].endswith(end):
            info = {"auto_model": auto_model, "pipeline_tag": task}
    if "auto_map" in config:
        info["custom_class"] = architectures[0]
    if "tokenizer_config" in config:
        info["processor"] = "AutoTokenizer"
    return info


def count_parameters(repository: Repository, commit: pygit2.Commit) -> Json | None:
    """`{"parameters": {"F32": 124}, "total": 124}` from the headers of `model.safetensors` or of its shards.

    None if there are none, or if one is not a valid safetensors file.
    """
    names = [item.name for item in commit.tree if item.name and _SHARD.fullmatch(item.name)]
    entries = [find_entry(repository, commit, name) for name in (names or ["model.safetensors"])]
    counts: dict[str, int] = {}
    for entry in entries:
        header = None if entry is None or entry.is_folder else _parameters_of(repository, entry)
        if header is None:
            return None
        for kind, count in header:
            counts[kind] = counts.get(kind, 0) + count
    total = sum(counts.values())
    return {"parameters": counts, "total": total} if counts and total <= MAX_PARAMETERS else None


def _parameters_of(repository: Repository, entry: Entry) -> tuple[tuple[str, int], ...] | None:
    if entry.pointer is None:
        return _count(bytes(repository.git.odb.read(entry.oid)[1]))
    return _count_in_file(str(object_path(repository, entry.pointer.oid)))


@lru_cache(maxsize=1024)
def _count_in_file(path: str) -> tuple[tuple[str, int], ...] | None:
    """The path contains the sha256 of the file, so the answer can't become outdated."""
    try:
        with Path(path).open("rb") as file:
            size = file.read(8)
            return _count(size + file.read(min(int.from_bytes(size, "little"), MAX_HEADER)))
    except OSError:
        return None


def _count(content: bytes) -> tuple[tuple[str, int], ...] | None:
    length = int.from_bytes(content[:8], "little")
    if not 0 < length <= min(MAX_HEADER, len(content) - 8):
        return None
    header, counts = _parse(content[8 : 8 + length]), dict[str, int]()
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        if not isinstance(tensor, dict) or not isinstance(tensor.get("dtype"), str):
            return None
        shape = tensor.get("shape")
        if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS:
            return None
        if not all(type(size) is int and 0 <= size <= MAX_PARAMETERS for size in shape):
            return None
        counts[tensor["dtype"]] = counts.get(tensor["dtype"], 0) + math.prod(shape)
    return tuple(counts.items())


def _read_json(repository: Repository, commit: pygit2.Commit, path: str) -> Json:
    """A JSON object in the repo; empty if there is none, or if it is large or invalid."""
    entry = find_entry(repository, commit, path)
    if entry is None or entry.is_folder or entry.size > MAX_JSON_FILE:
        return {}
    if entry.pointer is None:
        return _parse(bytes(repository.git.odb.read(entry.oid)[1]))
    try:
        return _parse(object_path(repository, entry.pointer.oid).read_bytes())
    except OSError:
        return {}


def _parse(text: bytes) -> Json:
    """An object that an answer in JSON can contain: NaN and lone surrogates, which Python's parser accepts, are invalid."""
    try:
        value = json.loads(text)
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
