"""Prompts for samples: the first words of held-out documents, which the model has not seen but which are like those it has.

This module does not load PyTorch.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tokenizers

from ..checkpoint.metadata import Sample
from ..checkpoint.model_folder import ModelFolder
from ..corpus.make_tokenizer import load_tokenizer
from ..corpus.tokenizer import TOKENIZER_FILE, Tokenizer
from ..errors import EchoselfError
from .held_out import read_held_out

Ids = npt.NDArray[np.integer[Any]]
FALLBACK = "The"
_WORDS, _FEWEST_WORDS, _MOST_IDS, _MOST_CHARACTERS = 8, 3, 48, 80
_HASHED_IDS, _CHECKED_IDS = 32, 256  # at the start of a document: what identifies it, and what must be allowed
_TRIED = 50  # documents


def corpus_prompts(
    held_out: Sequence[Ids],
    tokenizer: Tokenizer,
    block_size: int,
    count: int = 1,
    seed: int = 0,
    is_allowed: Callable[[str], bool] = lambda _: True,
) -> list[str]:
    """The first words of up to `count` documents in `held_out` (1-D ids), cut at a word; empty if it has no text for a prompt.

    The documents are those with the smallest hash of `seed` and their text, so a corpus that grows mostly keeps its prompts. A
    prompt takes at most half of `block_size` tokens. `is_allowed` rejects a document by its start, which is longer than a
    prompt: a prompt may be cut within what is not allowed.
    """
    length = max(1, min(_MOST_IDS, block_size // 2))
    found: dict[str, None] = {}
    for ids in sorted(_documents(held_out, tokenizer.end_of_text_id), key=lambda ids: _hash(seed, ids))[:_TRIED]:
        text = _first_words(tokenizer, ids, length)
        if text and _is_encoded(tokenizer, text) and is_allowed(tokenizer.decode(ids[:_CHECKED_IDS])):
            found[text] = None
    telling = [text for text in found if len(text.split()) >= _FEWEST_WORDS]
    return list(dict.fromkeys([*telling, *found]))[:count]


def prompt_of(
    folder: ModelFolder, held_out: Callable[[], Sequence[Ids]] = tuple, is_allowed: Callable[[str], bool] = lambda _: True
) -> Sample:
    """The prompt of the model in `folder`: the sample that its metadata records, or one without a continuation.

    If no prompt from its corpus is recorded, it is one from `held_out()`, or from the held-out text kept beside it. Where no
    text of its corpus is at hand, it is `fallback_prompt`.
    """
    recorded = folder.metadata.sample if folder.metadata else None
    if recorded and recorded.from_corpus:
        return recorded
    tokenizer = load_tokenizer(folder.path)
    for windows in (held_out, lambda: read_held_out(folder.path) or ()):
        if prompts := corpus_prompts(windows(), tokenizer, folder.config.block_size, is_allowed=is_allowed):
            return Sample(prompt=prompts[0], from_corpus=True)
    return Sample(prompt=fallback_prompt(folder.path))


def fallback_prompt(folder: Path) -> str:
    """The usual prompt; for a vocabulary without it (of ids, of few characters), its first token that can be encoded."""
    backend = tokenizers.Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    if _gives_ids(backend, FALLBACK):
        return FALLBACK
    special = {token.content for token in backend.get_added_tokens_decoder().values() if token.special}
    by_id = (backend.id_to_token(number) for number in range(backend.get_vocab_size()))
    candidates = (token for token in by_id if token and token not in special and token.isprintable() and token.strip())
    return next((token for token in candidates if _gives_ids(backend, token)), FALLBACK)


def _documents(held_out: Sequence[Ids], end: int | None) -> Iterator[Ids]:
    """The start of each document, with what follows it; of each text if no end-of-text token separates documents."""
    for number, ids in enumerate(held_out):
        starts = [0] if number == 0 or end is None else []  # a later window may start within a document
        if end is not None:
            starts += (np.flatnonzero(ids == end) + 1).tolist()
        yield from (ids[start:] for start in starts if start < len(ids))


def _hash(seed: int, ids: Ids) -> bytes:
    return hashlib.sha256(b"%d " % seed + np.asarray(ids[:_HASHED_IDS], np.int64).tobytes()).digest()


def _first_words(tokenizer: Tokenizer, ids: Ids, length: int) -> str:
    """The first words in the first `length` of `ids`, which may end within a word; "" if the document has no more than that."""
    near = ids[: length + 1].tolist()
    document = near[: near.index(tokenizer.end_of_text_id)] if tokenizer.end_of_text_id in near else near
    text = tokenizer.decode(document[:length]).rstrip("\ufffd")
    words = re.match(rf"\s*(?:\S+\s+){{1,{_WORDS - 1}}}\S+(?=\s)|\s*\S+(?=\s)", text)
    if words and len(words[0]) <= _MOST_CHARACTERS:
        return words[0].strip()
    return text[: _MOST_CHARACTERS // 4].strip() if len(document) > length or len(text) > _MOST_CHARACTERS // 4 else ""


def _is_encoded(tokenizer: Tokenizer, text: str) -> bool:
    """Whether the tokenizer has ids for all of `text`."""
    try:
        ids = tokenizer.encode_batch([text])[0]
    except EchoselfError:
        return False
    return len(ids) > 0 and (tokenizer.unknown_id is None or tokenizer.unknown_id not in ids)


def _gives_ids(backend: tokenizers.Tokenizer, text: str) -> bool:
    """Whether `text` gives ids, and none of them stands for an unknown token."""
    try:
        ids = backend.encode(text, add_special_tokens=False).ids
    except Exception:  # tokenizers raises no other, as for a word that a vocabulary without an unknown token lacks
        return False
    unknown = getattr(backend.model, "unk_token", None)
    return bool(ids) and (unknown is None or backend.token_to_id(str(unknown)) not in ids)
