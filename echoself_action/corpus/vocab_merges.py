"""GPT-2's older tokenizer files, vocab.json and merges.txt, as a `tokenizers.Tokenizer` with the ids of transformers' own.

Source: `GPT2Tokenizer` of transformers (models/gpt2/tokenization_gpt2.py), whose options stand in tokenizer_config.json.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers

from .bpe import END_OF_TEXT

VOCABULARY_FILE, MERGES_FILE, ADDED_FILE = "vocab.json", "merges.txt", "added_tokens.json"
VOCABULARY_FILES = (VOCABULARY_FILE, MERGES_FILE, ADDED_FILE)  # the last one need not exist


def read_vocab_merges(folder: Path) -> tokenizers.Tokenizer:
    """The tokenizer of the files in `folder`. Raises ValueError if they are invalid; the message follows the path."""
    try:
        config = _optional(folder / "tokenizer_config.json")
        backend = tokenizers.Tokenizer(models.BPE.from_file(str(folder / VOCABULARY_FILE), str(folder / MERGES_FILE)))
        added = _added_tokens(folder, config)
    except OSError as error:
        raise ValueError(f"can't be read ({error.strerror})") from None
    except Exception as error:  # `tokenizers` raises plain Exception for a merge that is not in the vocabulary
        raise ValueError(f"is not a valid vocabulary of GPT-2 ({type(error).__name__}: {str(error)[:200]})") from None
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=bool(config.get("add_prefix_space", False)))
    backend.decoder = decoders.ByteLevel()
    for i, token in sorted(added.items()):
        backend.add_tokens([token])
        if (given := backend.token_to_id(token.content)) != i:
            raise ValueError(f"gives the added token {token.content!r:.60} the id {given}, and its file says {i}")
    if backend.token_to_id(END_OF_TEXT) is not None:
        backend.add_special_tokens([AddedToken(END_OF_TEXT, normalized=False, special=True)])
    return backend


def _optional(path: Path) -> dict[str, Any]:
    values = json.loads(path.read_bytes()) if path.is_file() else {}
    if not isinstance(values, dict):
        raise TypeError(f"{path.name} is not an object")
    return values


def _added_tokens(folder: Path, config: Mapping[str, Any]) -> dict[int, AddedToken]:
    """The tokens that were added after training, by id: of tokenizer_config.json, else of added_tokens.json."""
    options = ("lstrip", "rstrip", "single_word", "normalized", "special")
    found = {
        int(i): AddedToken(str(values["content"]), **{name: bool(values[name]) for name in options if name in values})
        for i, values in (config.get("added_tokens_decoder") or {}).items()
    }
    return found or {int(i): AddedToken(str(content)) for content, i in _optional(folder / ADDED_FILE).items()}
