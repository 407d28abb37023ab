"""Which token ends a text, by the files of a folder of transformers.

A model without `<|endoftext|>` has another one, which its files name in several places.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .bpe import END_OF_TEXT

_TOKENIZER_CONFIG, _SPECIAL_TOKENS = "tokenizer_config.json", "special_tokens_map.json"
_SEPARATOR = "[SEP]"  # of BERT's tokenizer, which older files do not name
_MODEL_CONFIGS = ("config.json", "generation_config.json")


def end_token(folder: Path, vocabulary: Mapping[str, int], note: Callable[[str], None] = lambda _: None) -> str | None:
    """The first that is in `vocabulary` of: `eos_token` of the tokenizer; `<|endoftext|>`, unless another one is named;
    `eos_token_id` of the model; `sep_token`. `note` gets the choice, unless it is one of the first two.

    None if `eos_token` is null and the model names none: a vocabulary without such a token. Raises ValueError if none is found.
    """
    settings = _read(folder / _TOKENIZER_CONFIG)
    special = _read(folder / _SPECIAL_TOKENS)
    named = _content(settings.get("eos_token")) or _content(special.get("eos_token"))
    for token in (named, None if named or "eos_token" in settings else END_OF_TEXT):
        if token in vocabulary:
            return token
    missing = f"{named or END_OF_TEXT!r} is not in its vocabulary"
    tokens = {i: token for token, i in vocabulary.items()}
    for where, i in _ids(folder):
        if i in tokens:
            note(f"end of text: {tokens[i]!r}, the eos_token_id of its {where}; {missing}")
            return tokens[i]
    if named is None and "eos_token" in settings:
        return None
    separator = _content(settings.get("sep_token")) or _content(special.get("sep_token")) or _SEPARATOR
    if separator in vocabulary:
        note(f"end of text: {separator!r}, the sep_token of its tokenizer; {missing}, and its config.json names none")
        return separator
    raise ValueError(f"has no end-of-text token ({missing})")


def _ids(folder: Path) -> Iterator[tuple[str, int]]:
    """The end-of-text ids of the model, with the file that names each."""
    for name in _MODEL_CONFIGS:
        ids = _read(folder / name).get("eos_token_id")
        yield from ((name, i) for i in (ids if isinstance(ids, list) else [ids]) if type(i) is int)


def _content(token: object) -> str | None:
    """A token, which may be an AddedToken, as transformers 4 writes it."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else None


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"has a {path.name} beside it that can't be read ({error})") from None
    if not isinstance(values, dict):
        raise ValueError(f"has a {path.name} beside it that is not an object")
    return values
