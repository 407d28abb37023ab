"""Which documents are held out: decided by a hash of each document's own text, and by nothing else.

So a document is in the same split in every run, on every machine, whatever else the corpus holds: as a corpus grows, no
document moves from validation to training, and validation losses of different runs stay comparable. Equal documents are
always in the same split. Raising the fraction only moves documents from training to validation.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .readers import Document

# A stretch is tokenised in one piece; this bounds the memory that one needs.
_STRETCH_CHARACTERS = 1_000_000


def split_position(text: str) -> float:
    """Where a document stands in [0, 1): the first 53 bits of a BLAKE2b hash of its text, evenly spread.

    White space at either end does not count: a newline added at the end of a file moves nothing.
    """
    digest = hashlib.blake2b(text.strip().encode(), digest_size=8, person=b"echoself split").digest()
    return (int.from_bytes(digest) >> 11) / 2**53


def is_validation(text: str, fraction: float) -> bool:
    """Whether a document is held out, when about `fraction` (0 to 1) of all documents should be."""
    return split_position(text) < fraction


@dataclass(frozen=True)
class Stretch:
    """Text of one split that is tokenised in one piece: one document, or neighbouring passages of one file."""

    text: str
    validation: bool
    documents: int
    ends: bool  # an end-of-text token follows; False where the same file's next passage, in the same split, flows on


def stretches(documents: Iterable[Document], fraction: float) -> Iterator[Stretch]:
    """Documents in their order, with passages that flow on in the same split joined again.

    Joined before they are tokenised, because tokens at a cut would differ from those of the uncut text.
    """
    texts: list[str] = []
    characters = 0
    validation = False
    for document in documents:
        held_out = is_validation(document.text, fraction)
        flows_on = document.continues and held_out == validation
        if texts and not (flows_on and characters < _STRETCH_CHARACTERS):
            yield Stretch("".join(texts), validation, len(texts), ends=not flows_on)
            texts, characters = [], 0
        texts.append(document.text)
        characters += len(document.text)
        validation = held_out
    if texts:
        yield Stretch("".join(texts), validation, len(texts), ends=True)
