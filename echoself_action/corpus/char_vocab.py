"""Vocabularies that are not byte-level: characters as listed in nanoGPT's meta.pkl, character codes, or plain ids.

nanoGPT's character vocabularies have no end-of-text token, so these tokenizers have none either: an additional id would change
the size of the model's softmax.
"""

import io
import json
import pickle
import pickletools
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers

from .file_types import IS_POINTER, is_pointer_text

_CHARACTER = r"[\s\S]"
_SURROGATES = 0xD800  # code points from here on are no characters
_UNKNOWN = "<UNK>"  # as prepare_nanecho_data.py of EchoSelf names it
_LARGEST_META = 4 << 20  # bytes; the vocabulary of all of Unicode is no larger


class _PlainUnpickler(pickle.Unpickler):
    """Loads dicts, strings and numbers. Any other object in a pickle is refused before it is imported."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        raise pickle.UnpicklingError(f"it references {module_name}.{global_name}, which a vocabulary never needs")


def read_meta(path: Path) -> list[str]:
    """The characters of the ids 0, 1, 2, ... in a nanoGPT `meta.pkl`. No code in it is run.

    Raises ValueError if it is not such a file; the message follows the path.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_META + 1)
        if len(content) > _LARGEST_META:
            raise ValueError(f"is larger than any vocabulary ({_LARGEST_META:,} bytes)")
        if is_pointer_text(content):
            raise ValueError(IS_POINTER)
        _refuse_tuples(content)
        meta = _PlainUnpickler(io.BytesIO(content)).load()
    except OSError as error:
        raise ValueError(f"can't be read ({error.strerror})") from None
    except ValueError:
        raise
    except Exception as error:  # a broken pickle can raise any exception
        raise ValueError(f"is not a nanoGPT vocabulary ({str(error) or type(error).__name__})") from None
    names = meta.get("itos") if isinstance(meta, dict) else None
    if isinstance(names, list):  # as some other scripts write it
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        raise ValueError("is not a nanoGPT vocabulary (it has no `itos`)")
    characters = [names.get(i) for i in range(len(names))]
    if not all(isinstance(one, str) and len(one) == 1 and not 0xD800 <= ord(one) < 0xE000 for one in characters):
        raise ValueError("is not a character vocabulary (its `itos` is not one character for each id from 0 on)")
    if len(set(characters)) < len(characters):
        raise ValueError("has a character with two ids")
    ids = {one: i for i, one in names.items()}
    if meta.get("vocab_size", len(names)) != len(names) or meta.get("stoi", ids) != ids:
        raise ValueError("is inconsistent (`itos`, `stoi` and `vocab_size` don't match)")
    return [str(one) for one in characters]


def _refuse_tuples(content: bytes) -> None:
    """Raises ValueError for a pickle with tuples: as keys, a few that contain each other would take for ever to hash.

    What follows the first name that it references is not read: the unpickler refuses that.
    """
    with suppress(ValueError):  # not a pickle, which the unpickler says better
        for operation, _, _ in pickletools.genops(content):
            if operation.name in ("GLOBAL", "STACK_GLOBAL", "INST"):
                return
            if "TUPLE" in operation.name or operation.name == "FROZENSET":
                break
        else:
            return
        raise pickle.UnpicklingError("it has tuples, which a vocabulary never needs")


def character_tokenizer(characters: list[str]) -> tokenizers.Tokenizer:
    """One id for each character. A text with any other character is an error, as in nanoGPT."""
    backend = tokenizers.Tokenizer(models.WordLevel({one: i for i, one in enumerate(characters)}))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(_CHARACTER), "isolated")
    backend.decoder = decoders.Fuse()
    return backend


def code_point_tokenizer(size: int) -> tokenizers.Tokenizer:
    """The id of a character is its code point, for all below `size` and below the surrogates."""
    return character_tokenizer([chr(i) for i in range(min(size, _SURROGATES))])


def printable_ascii_tokenizer() -> tokenizers.Tokenizer:
    """The id of a printable ASCII character is its code minus 32; that of any other is 95."""
    names = [chr(i) for i in range(32, 127)] + [_UNKNOWN]
    backend = tokenizers.Tokenizer(models.WordLevel({one: i for i, one in enumerate(names)}, unk_token=_UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(_CHARACTER), "isolated")
    backend.decoder = decoders.Fuse()
    return backend


def is_code_points(backend: tokenizers.Tokenizer) -> bool:
    """Whether `backend`, a tokenizer of characters, is like `code_point_tokenizer`'s."""
    return all(ord(one) == i for one, i in backend.get_vocab().items())


def character_encoder(backend: tokenizers.Tokenizer) -> Callable[[str], npt.NDArray[np.unsignedinteger[Any]]] | None:
    """A fast function that gives the same ids as `backend`, by a table of code points.

    It raises ValueError for a character without an id. None if `backend` is not a tokenizer like `character_tokenizer`'s.
    """
    parts = json.loads(backend.to_str())
    model, cut = parts["model"], parts["pre_tokenizer"] or {}
    if (
        model["type"] != "WordLevel"
        or parts["normalizer"]
        or parts["added_tokens"]
        or (cut.get("type"), cut.get("pattern"), cut.get("behavior")) != ("Split", {"Regex": _CHARACTER}, "Isolated")
        or cut["invert"]
        or any(len(one) != 1 for one in model["vocab"])
        or model["unk_token"] in model["vocab"]
    ):
        return None
    unknown = max(model["vocab"].values()) + 1
    table = np.full(
        max(map(ord, model["vocab"])) + 2, unknown, np.min_scalar_type(unknown)
    )  # the last entry is for all code points above
    for one, i in model["vocab"].items():
        table[ord(one)] = i

    def encode(text: str) -> npt.NDArray[np.unsignedinteger[Any]]:
        ids = table.take(np.frombuffer(text.encode("utf-32-le"), "<u4"), mode="clip")
        if ids.size and ids.max() == unknown:
            raise ValueError(f"{text[int(ids.argmax())]!r} has no id")
        return ids

    return encode


def id_tokenizer(size: int) -> tokenizers.Tokenizer:
    """For a model with an unknown vocabulary: its text is its ids, as numbers separated by spaces."""
    backend = tokenizers.Tokenizer(models.WordLevel({str(i): i for i in range(size)}))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return backend


def unknown_pieces(backend: tokenizers.Tokenizer, text: str) -> list[str]:
    """The first five pieces of `text` that have no id."""
    pieces = (piece for piece, _ in backend.pre_tokenizer.pre_tokenize_str(text))
    return list(dict.fromkeys(piece for piece in pieces if backend.token_to_id(piece) is None))[:5]
