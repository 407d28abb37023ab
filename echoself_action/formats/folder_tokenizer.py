"""The tokenizer of a model in a folder of transformers: its own, or the one that the user gives for a folder without one."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..checkpoint.vocabulary import TOKENIZER_CONFIG_FILE, TOKENIZER_FILE, check_token_ids
from ..corpus.make_tokenizer import load_tokenizer, make_tokenizer, older_tokenizer
from ..corpus.tokenizer import Tokenizer
from ..corpus.vocab_merges import MERGES_FILE, VOCABULARY_FILE, WORDPIECE_FILE
from ..errors import CheckpointError, InputError
from .recorded_config import read_json

_OLDER = f"{VOCABULARY_FILE} and {MERGES_FILE}"
_SENTENCEPIECE = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
# Settings that are no part of a text's ids, and that this program has no use for.
_NOT_KEPT = (
    *("chat_template", "pad_token", "cls_token", "sep_token", "mask_token"),
    *("additional_special_tokens", "extra_special_tokens"),
)


def folder_tokenizer(folder: Path, spec: str | None, size: int, note: Callable[[str], None]) -> Tokenizer:
    """The tokenizer of the model in `folder`, which has embeddings of `size` ids; that of `spec` if the folder has none.

    Raises CheckpointError if there is neither, if it can't be read, or if it has more ids; InputError if `spec` is another
    tokenizer than the folder's.
    """
    fixed = None if spec is None or spec.startswith("bpe:") else spec  # bpe: is for new models
    name = TOKENIZER_FILE if (folder / TOKENIZER_FILE).is_file() else older_tokenizer(folder)
    if name is None:
        if fixed:
            return make_tokenizer(fixed, lambda: iter(()))
        raise CheckpointError(
            f"{folder} has no tokenizer: no {TOKENIZER_FILE}, no {_OLDER}, no {WORDPIECE_FILE}. It was not used.",
            _where_to_find(folder),
        )
    note(f"its vocabulary is in {folder / (_OLDER if name == VOCABULARY_FILE else name)}")
    tokenizer = load_tokenizer(folder, note)
    if tokenizer.vocab_size > size:
        first = tokenizer.decode(range(size, min(tokenizer.vocab_size, size + 8)))
        raise CheckpointError(
            f"{folder} has a tokenizer with {tokenizer.vocab_size:,} ids, and its model has embeddings of {size:,}, not "
            f"of {first!r:.80}. It was not used.",
            "Use the tokenizer that the model was trained with: without these tokens, if they were added later. Or save the "
            "model again after model.resize_token_embeddings(len(tokenizer)).",
        )
    if fixed and fixed != tokenizer.name and make_tokenizer(fixed, lambda: iter(())).digest != tokenizer.digest:
        raise InputError(
            f"tokenizer: {fixed} is not the tokenizer of {folder}, which is {tokenizer.name}. Nothing was imported.",
            "Remove tokenizer: a model works with its own only.",
        )
    settings = read_json(folder / TOKENIZER_CONFIG_FILE)
    if name == TOKENIZER_FILE and settings:
        check_token_ids(folder, size)  # of the tokens that tokenizer_config.json adds, too
        if added := _added_beside(folder, settings):
            note(f"not kept: {added}, which {TOKENIZER_CONFIG_FILE} adds and {TOKENIZER_FILE} does not have")
    if left_out := [name for name in _NOT_KEPT if settings.get(name)]:
        note(f"not kept of its {TOKENIZER_CONFIG_FILE}: {', '.join(left_out)}. The ids of a text are the same")
    return tokenizer


def _added_beside(folder: Path, settings: Mapping[str, Any]) -> str:
    """The tokens that a tokenizer_config.json adds to those of the tokenizer.json beside it."""
    values = json.loads((folder / TOKENIZER_FILE).read_bytes())
    known = {token["content"] for token in values.get("added_tokens") or ()} | set(map(_text, values["model"]["vocab"]))
    declared = [token.get("content") for token in (settings.get("added_tokens_decoder") or {}).values()]
    return ", ".join(repr(token) for token in declared if token not in known)[:200]


def _text(entry: object) -> object:
    """The token of an entry of a vocabulary: a key of an object, or a pair with its score."""
    return entry[0] if isinstance(entry, list) else entry


def _where_to_find(folder: Path) -> str:
    above = folder.parent / TOKENIZER_FILE
    if above.is_file() and folder.name.startswith("checkpoint-"):  # transformers' Trainer saves it there at the end
        return f"Set tokenizer: {above}, if that is the tokenizer of the model."
    if (folder / VOCABULARY_FILE).is_file():
        return f"Copy its {MERGES_FILE} too."
    if other := next((name for name in _SENTENCEPIECE if (folder / name).is_file()), None):
        return (
            f"Convert its {other}: AutoTokenizer.from_pretrained(folder).save_pretrained(folder) of transformers, with "
            f"sentencepiece installed, writes {TOKENIZER_FILE}."
        )
    return (
        f"Copy {TOKENIZER_FILE} and {TOKENIZER_CONFIG_FILE} of the model into it (transformers' Trainer saves them only if it "
        "gets the tokenizer), or set tokenizer to gpt2 or to the path of a tokenizer.json."
    )
