"""Older tokenizer files as a `tokenizers.Tokenizer` with the ids of transformers' own: vocab.json and merges.txt of GPT-2, and
vocab.txt of BERT, which Chinese GPT-2 models have.

Sources: `GPT2Tokenizer` and `BertTokenizer` of transformers, whose options are in tokenizer_config.json.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers

from .bpe import END_OF_TEXT

VOCABULARY_FILE, MERGES_FILE, ADDED_FILE = "vocab.json", "merges.txt", "added_tokens.json"
WORDPIECE_FILE = "vocab.txt"
VOCABULARY_FILES = (VOCABULARY_FILE, MERGES_FILE, ADDED_FILE, WORDPIECE_FILE)
_OF_BERT = ("BertTokenizer", "BertTokenizerFast")
_SPECIAL = {"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]", "mask_token": "[MASK]"}


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
    _add(backend, added)
    if backend.token_to_id(END_OF_TEXT) is not None:
        backend.add_special_tokens([AddedToken(END_OF_TEXT, normalized=False, special=True)])
    return backend


def read_wordpiece(folder: Path) -> tokenizers.Tokenizer:
    """The tokenizer of vocab.txt in `folder`. Raises ValueError, whose message follows the path, if it is not of BERT."""
    try:
        config, special = _optional(folder / "tokenizer_config.json"), _optional(folder / "special_tokens_map.json")
        kind = config.get("tokenizer_class") or _optional(folder / "config.json").get("tokenizer_class") or _OF_BERT[0]
        if kind not in _OF_BERT:
            raise ValueError(f"is of a {kind!r:.60}, which is not read from this file")
        names = [_content(config.get(name) or special.get(name) or usual) for name, usual in _SPECIAL.items()]
        backend = tokenizers.Tokenizer(models.WordPiece.from_file(str(folder / WORDPIECE_FILE), unk_token=names[0]))
        added = _added_tokens(folder, config)
    except OSError as error:
        raise ValueError(f"can't be read ({error.strerror})") from None
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"is not a valid vocabulary of BERT ({type(error).__name__}: {str(error)[:200]})") from None
    backend.normalizer = normalizers.BertNormalizer(
        handle_chinese_chars=bool(config.get("tokenize_chinese_chars", True)),
        strip_accents=config.get("strip_accents"),
        lowercase=bool(config.get("do_lower_case", True)),
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.add_special_tokens([name for name in names if backend.token_to_id(name) is not None])
    _add(backend, added)
    return backend


def _add(backend: tokenizers.Tokenizer, added: Mapping[int, AddedToken]) -> None:
    for i, token in sorted(added.items()):
        backend.add_tokens([token])
        if (given := backend.token_to_id(token.content)) != i:
            raise ValueError(f"gives the added token {token.content!r:.60} the id {given}, and its file says {i}")


def _content(token: object) -> str:
    return str(token.get("content") if isinstance(token, dict) else token)


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
