"""A tokenized corpus: two memory-mapped streams of ids, and their counts."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .findings import Finding
from .repeated_windows import RepeatedWindows
from .tokenizer import Tokenizer

Ids = npt.NDArray[np.unsignedinteger[Any]]

# Part of every digest. Increase the number if the same corpus gives other ids than before.
FORMAT = "echoself tokens 2"


@dataclass(frozen=True)
class Source:
    """A file of a corpus: its name, as weights of files have it (source_weights.py), and its number of ids in `train`."""

    name: str
    tokens: int


@dataclass(frozen=True)
class Tokens:
    """A tokenized corpus. `digest` identifies ids, order and split, and seeds the batches.

    `val_digest` identifies the held-out ids and their tokenizer: losses are comparable where it is the same, however the
    training text has changed. `leaked_bytes` and `leaked_paragraphs` count the text that was left out of training because it is
    also held out, `common_bytes` the held-out text that is so common in the training text that it was not (leaks.py). They and
    `val_fraction` are None for token files, whose documents are unknown. `repeated` is what both splits of token files have
    (repeated_windows.py), None for other files.
    """

    train: Ids  # (n,) memory-mapped ids
    val: Ids
    digest: str
    val_digest: str
    tokenizer: Tokenizer
    documents: int  # in both splits together
    val_documents: int
    bytes_train: (
        int | None
    )  # UTF-8 bytes of the text, for bits per byte; None if unknown, as for a .bin without byte-level tokenizer
    bytes_val: int | None
    leaked_bytes: int | None
    leaked_paragraphs: int | None
    common_bytes: int | None
    val_fraction: float | None
    reused: bool  # from the cache
    findings: tuple[Finding, ...] = ()  # what was not learnt as it is in the files
    repeated: RepeatedWindows | None = None
    sources: tuple[Source, ...] | None = None  # in the order of `train`; None for a cache of an earlier version
    ppmd_bits_per_byte: float | None = None  # of the held-out text (ppmd.py); None for token files, and for a large corpus


def require_block(tokens: Tokens, block_size: int) -> None:
    """Raises InputError if a split has fewer than `block_size` + 1 tokens."""
    sizes = {"training": len(tokens.train), "validation": len(tokens.val)}
    smallest = min(sizes.values())
    if smallest <= block_size:
        found = " and ".join(f"{size:,} {split} tokens" for split, size in sizes.items())
        raise InputError(
            f"The corpus has {found}, but block_size {block_size:,} requires at least {block_size + 1:,} of each. Nothing was "
            "trained.",
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
            "Check its permissions, or remove it from `data`.",
        ) from None


def held_out_digest(tokenizer: Tokenizer, val_sha256: str) -> str:
    """The `val_digest` of Tokens. `val_sha256` is the SHA-256 (hex) of the held-out ids, as val.bin has them."""
    return hash_text(["held out", tokenizer.digest, val_sha256])


def hash_text(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
