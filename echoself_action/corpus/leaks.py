"""Held-out text that is in the training text too: it is left out of training, so that the held-out loss measures new text.

The unit is a paragraph: text between blank lines, in any document. Two are the same if they differ only in white space or in
Unicode form (NFC); case, punctuation and every letter count. A line of a long paragraph is not compared by itself.

Two kinds of paragraphs are no leak and stay:
- short ones. Headings, rules of tables, closing brackets and names of speakers are in every document, held out or not.
- common ones, with `COMMON` or more copies in the training text, such as a licence notice, the usage line of a command or the
  system prompt of a set of chats. New text has them too, and a model that never sees its system prompt is of no use. The
  held-out text that consists of them is counted, because its loss is low by repetition.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple
from unicodedata import normalize

from .split import Piece

MIN_CHARACTERS = 50  # of a paragraph that can be a leak, white space collapsed
COMMON = 4  # copies: a text that was copied by mistake, or moved and kept, has one to three

_GAP = re.compile(r"\n\s*\n")


class SharedText(NamedTuple):
    """A held-out paragraph in a text."""

    number: int  # in `paragraphs` of the text
    key: int  # a hash of the paragraph
    start: int  # a hash of its first words


class HeldOutParagraphs:
    """The paragraphs of the held-out text, by hash: about 200 bytes of memory each, however long they are."""

    def __init__(self) -> None:
        self._bytes: dict[int, int] = {}  # hash of a paragraph -> bytes of its copies in the held-out text
        self._starts: set[int] = set()  # of their first words, to skip most others without hashing them

    def add(self, text: str) -> None:
        """Add the paragraphs of a held-out document."""
        for paragraph in _split(text):
            if len(paragraph) >= MIN_CHARACTERS and (key := _key(paragraph)):
                self._bytes[key] = self._bytes.get(key, 0) + len(paragraph.encode())
                self._starts.add(_start(paragraph))

    def find(self, text: str) -> list[SharedText]:
        """The paragraphs of `text` that are held out."""
        return [
            SharedText(number, key, start)
            for number, paragraph in enumerate(_split(text))
            if len(paragraph) >= MIN_CHARACTERS
            and (start := _start(paragraph)) in self._starts
            and (key := _key(paragraph)) in self._bytes
        ]

    def bytes_of(self, keys: Iterable[int]) -> int:
        """The bytes of the held-out text that consist of these paragraphs."""
        return sum(self._bytes[key] for key in keys)

    def only(self, starts: dict[int, int]) -> "HeldOutParagraphs":
        """Some of them. `starts`: hash of each -> hash of its first words."""
        some = HeldOutParagraphs()
        some._bytes = {key: self._bytes[key] for key in starts}
        some._starts = set(starts.values())
        return some


class Leaks:
    """The held-out paragraphs in the training documents, which are read twice: to find them, then without them.

    `bytes` and `paragraphs` count what was left out, with the blank lines after it, `common_bytes` the held-out text that
    consists of common paragraphs.
    """

    def __init__(self, held_out: HeldOutParagraphs, documents: Iterable[Piece]) -> None:
        """Find them in the training documents."""
        copies: Counter[int] = Counter()
        starts: dict[int, int] = {}
        self._found = bytearray()  # for each document, whether it has any
        for document in documents:
            found = held_out.find(document.text)
            self._found.append(bool(found))
            for one in found:
                copies[one.key] += 1
                starts[one.key] = one.start
        self.common_bytes = held_out.bytes_of(key for key, count in copies.items() if count >= COMMON)
        self._leaks = held_out.only({key: starts[key] for key, count in copies.items() if count < COMMON})
        self.bytes = 0
        self.paragraphs = 0

    def removed_from(self, documents: Iterable[Piece]) -> Iterator[Piece]:
        """The same documents without the leaks. The text before a leak and the text after it do not continue each other."""
        gap = False  # a leak is directly before the next piece
        for found, document in zip(self._found, documents, strict=True):
            leaks = {one.number for one in self._leaks.find(document.text)} if found else set()
            if not leaks:
                yield replace(document, continues=False) if gap else document
                gap = False
                continue
            self.paragraphs += len(leaks)
            counted, continues = document.documents, document.continues and not gap
            for is_leak, run in groupby(enumerate(paragraphs(document.text)), key=lambda paragraph: paragraph[0] in leaks):
                text = "".join(paragraph for _, paragraph in run)
                gap = is_leak or text.isspace()  # blank lines before a leak, at the start of a document
                if gap:
                    self.bytes += len(text.encode())
                else:
                    yield Piece(text, counted, continues, document.source)
                    counted = 0
                continues = False


def paragraphs(text: str) -> Iterator[str]:
    """Paragraphs, each with the blank lines after it; joined, they are the text again."""
    start = 0
    for gap in _GAP.finditer(text):
        yield text[start : gap.end()]
        start = gap.end()
    if start < len(text):
        yield text[start:]


def _split(text: str) -> list[str]:
    """The paragraphs in NFC, without the blank lines between them; numbered as `paragraphs` are."""
    return _GAP.split(text if text.isascii() else normalize("NFC", text))


def _start(paragraph: str) -> int:
    """A hash of the first words, for this process only: it is quick, and most paragraphs differ in them."""
    return hash(tuple(paragraph.split(None, 5)[:5]))


def _key(paragraph: str) -> int:
    """A hash of a paragraph that ignores white space; 0 if it is too short."""
    text = " ".join(paragraph.split())
    if len(text) < MIN_CHARACTERS:
        return 0
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8, person=b"echoself leak").digest())
