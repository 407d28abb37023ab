"""The validation split: a document is held out depending only on a hash of its own text.

Therefore a document is in the same split in every run and on every machine: as a corpus grows, no document moves from
validation to training, and validation losses of different runs stay comparable. Equal documents are always in the same
split. A larger fraction only moves documents from training to validation.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# of a segment, which is tokenized in one call: bounds its memory
_SEGMENT_CHARACTERS = 1_000_000


def split_position(text: str) -> float:
    """The position of a document in [0, 1), uniformly distributed: the first 53 bits of a BLAKE2b hash of its text.

    White space at either end is ignored, so that a newline added at the end of a file changes no split.
    """
    digest = hashlib.blake2b(text.strip().encode(), digest_size=8, person=b"echoself split").digest()
    return (int.from_bytes(digest) >> 11) / 2**53


def is_validation(text: str, fraction: float) -> bool:
    """Whether a document is held out, if about `fraction` (0 to 1) of all documents are."""
    return split_position(text) < fraction


@dataclass(frozen=True)
class Piece:
    """A document of one split, or what is left of it."""

    text: str
    documents: int = 1  # 0 for the second and later parts of a document
    continues: bool = False  # directly follows the piece before: same file, same split, nothing between them
    source: str = ""  # the source of the document


@dataclass(frozen=True)
class Segment:
    """Text of one split that is tokenized in one call: one document, or adjacent passages of one file."""

    text: str
    documents: int
    ends: bool  # an end-of-text token follows; False if the text continues in the next segment
    source: str = ""  # the source of its first document


def segments(pieces: Iterable[Piece]) -> Iterator[Segment]:
    """The pieces of one split in order; those that continue each other are joined.

    They are joined before tokenization, because tokens at a boundary would differ from those of the whole text.
    """
    texts: list[str] = []
    characters = documents = 0
    source = ""
    for piece in pieces:
        if texts and not (piece.continues and characters < _SEGMENT_CHARACTERS):
            yield Segment("".join(texts), documents, not piece.continues, source)
            texts, characters, documents = [], 0, 0
        source = source if texts else piece.source
        texts.append(piece.text)
        characters += len(piece.text)
        documents += piece.documents
    if texts:
        yield Segment("".join(texts), documents, True, source)
