"""A tokenised corpus: two memory-mapped streams of ids and what is known of them."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .tokenizer import Tokenizer

Ids = npt.NDArray[np.unsignedinteger[Any]]

# Part of every digest: raise it when the same corpus would give other ids than before.
FORMAT = "echoself tokens 1"


@dataclass(frozen=True)
class Tokens:
    """A tokenised corpus. `digest` is equal exactly where ids, order and split are: batches are drawn from it."""

    train: Ids  # (n,) memory-mapped ids
    val: Ids
    digest: str
    tokenizer: Tokenizer
    documents: int  # in both splits together
    val_documents: int
    bytes_train: int | None  # UTF-8 bytes of the text, for bits per byte; None where a .bin can't tell
    bytes_val: int | None
    reused: bool  # nothing was tokenised


def require_block(tokens: Tokens, block_size: int) -> None:
    """Raises InputError where a split has no room for one block of `block_size` tokens and the token after it."""
    sizes = {"training": len(tokens.train), "validation": len(tokens.val)}
    smallest = min(sizes.values())
    if smallest <= block_size:
        told = " and ".join(f"{size:,} tokens for {split}" for split, size in sizes.items())
        raise InputError(
            f"The corpus has {told}, and a block of {block_size:,} needs at least {block_size + 1:,} of each, "
            "so nothing was trained.",
            f"Lower block_size to {smallest - 1} or less, or add text." if smallest > 1 else "Add text.",
        )


def id_dtype(tokenizer: Tokenizer) -> np.dtype[np.unsignedinteger[Any]]:
    return np.dtype("<u2" if tokenizer.vocab_size <= 1 << 16 else "<u4")


def map_ids(path: Path, tokenizer: Tokenizer) -> Ids:
    return np.memmap(path, id_dtype(tokenizer), "r")


def hash_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(
            f"{path} can't be read ({error.strerror}), so the corpus was not read.",
            "Check its permissions, or take it out of `data`.",
        ) from None


def hash_text(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
