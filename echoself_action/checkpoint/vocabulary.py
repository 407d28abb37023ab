"""The token ids that a model folder's tokenizer can produce, read from its JSON files without loading `tokenizers`.

A model has an embedding for each id below `vocab_size`. Additional rows are padding. An id without a row would be accessed out
of bounds, and written out of bounds by native kernels.
"""

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import CheckpointError

TOKENIZER_FILE, TOKENIZER_CONFIG_FILE = "tokenizer.json", "tokenizer_config.json"


def check_token_ids(folder: Path, vocab_size: int) -> None:
    """Raises CheckpointError if the tokenizer in `folder` has an id that is not below `vocab_size`, or can't be read."""
    highest = -1
    for name, ids in ((TOKENIZER_FILE, _tokenizer_ids), (TOKENIZER_CONFIG_FILE, _config_ids)):
        path = folder / name
        try:
            status = path.stat()
            highest = ids(path, status.st_mtime_ns, status.st_size)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise CheckpointError(
                f"{path} can't be read as a tokenizer: {type(error).__name__}: {str(error)[:200]}. The folder was not used.",
                "Pull the model again, or use another checkpoint.",
            ) from error
        if highest >= vocab_size:
            raise CheckpointError(
                f"{path} has token ids up to {highest:,}, and config.json says vocab_size={vocab_size}: the model has no "
                "embeddings for them. The folder was not used.",
                "Use the tokenizer that the model was trained with, or save the model again after "
                "model.resize_token_embeddings(len(tokenizer)).",
            )


def pad_token(folder: Path) -> str | None:
    """The token with which transformers pads the texts of a batch; None if the tokenizer in `folder` has none."""
    try:
        token = json.loads((folder / TOKENIZER_CONFIG_FILE).read_bytes()).get("pad_token")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None
    token = token.get("content") if isinstance(token, dict) else token  # as transformers 4 writes it
    return token if isinstance(token, str) else None


@lru_cache(maxsize=64)
def _tokenizer_ids(path: Path, modified: int, size: int) -> int:  # noqa: ARG001  # cache keys: a changed file is read again
    """The highest id that `tokenizers` gives a token of the tokenizer.json at `path`, -1 if it has none.

    An added token that the model's vocabulary lacks gets the next free id, not the id that the file declares, so both count.
    """
    values = json.loads(path.read_bytes())
    vocabulary = values["model"]["vocab"]
    known: Mapping[str, int] = (
        vocabulary if isinstance(vocabulary, dict) else {token: i for i, (token, _) in enumerate(vocabulary)}
    )
    added: dict[str, int] = {}
    declared = []
    for token in values.get("added_tokens") or ():
        declared.append(token["id"])
        if token["content"] not in known:
            added.setdefault(token["content"], max(len(known), 1 + max(added.values(), default=-1)))
    return _highest([*known.values(), len(known) - 1, *added.values(), *declared])


@lru_cache(maxsize=64)
def _config_ids(path: Path, modified: int, size: int) -> int:  # noqa: ARG001
    """The highest id of the tokens that a tokenizer_config.json adds for transformers, -1 if it adds none."""
    added: Mapping[str, Any] = json.loads(path.read_bytes()).get("added_tokens_decoder") or {}
    return _highest(map(int, added))


def _highest(ids: Iterable[int]) -> int:
    found = list(ids)
    if not all(type(i) is int for i in found):
        raise ValueError("an id is not an integer")
    return max(found, default=-1)
