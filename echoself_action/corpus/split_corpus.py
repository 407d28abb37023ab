"""A corpus separated into its splits: the segments of each to tokenize, without the training text that is held out too.

What is held out is known only after the last document, so each is kept in a temporary file in between: reading the corpus again
(decoding, cutting passages, parsing JSON) would take longer, and its files may change meanwhile.
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from .leaks import HeldOutParagraphs, Leaks
from .readers import Document
from .split import Piece, Segment, is_validation, segments

_HEAD = struct.Struct("<QI?")  # bytes of the text and of its source, and whether it continues the document before


class _Spool:
    """The documents of one split in a temporary file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.size = 0  # bytes: the place of the next document

    def add(self, document: Document, continues: bool) -> None:
        content, source = document.text.encode(), document.source.encode(errors="surrogateescape")
        self._file.write(_HEAD.pack(len(content), len(source), continues))
        self._file.write(source)
        self._file.write(content)
        self.size += _HEAD.size + len(source) + len(content)

    def read(self, start: int = 0, end: int | None = None) -> Iterator[Piece]:
        """The documents between two places, by default all."""
        end = self.size if end is None else end
        self._file.seek(start)
        while start < end:
            size, source_size, continues = _HEAD.unpack(self._file.read(_HEAD.size))
            source = self._file.read(source_size).decode(errors="surrogateescape")
            yield Piece(self._file.read(size).decode(), 1, continues, source)
            start += _HEAD.size + source_size + size


class SplitCorpus:
    """The documents of a corpus, by split. `leaks` is what is left out of training."""

    def __init__(self, documents: Iterable[Document], val_fraction: float, train: IO[bytes], val: IO[bytes]) -> None:
        self._train, self._val = _Spool(train), _Spool(val)
        self._stretches: list[tuple[bytes, int, int]] = []  # adjacent held-out passages: hash, start and end in the spool
        held_out = self._separate(documents, val_fraction)
        self.leaks = Leaks(held_out, self._train.read())

    def _separate(self, documents: Iterable[Document], val_fraction: float) -> HeldOutParagraphs:
        paragraphs = HeldOutParagraphs()
        before = False
        start, stretch = 0, hashlib.blake2b(digest_size=16)
        for document in documents:
            held_out = is_validation(document.text, val_fraction)
            continues = document.continues and held_out == before
            before = held_out
            if not held_out:
                self._train.add(document, continues)
                continue
            if not continues and self._val.size:
                self._stretches.append((stretch.digest(), start, self._val.size))
                start, stretch = self._val.size, hashlib.blake2b(digest_size=16)
            stretch.update(document.text.encode())
            self._val.add(document, continues)
            paragraphs.add(document.text)
        if self._val.size:
            self._stretches.append((stretch.digest(), start, self._val.size))
        return paragraphs

    def train(self) -> Iterator[Segment]:
        """The training text, in the order of the documents."""
        return segments(self.leaks.removed_from(self._train.read()))

    def val(self) -> Iterator[Segment]:
        """The held-out text, in an order that depends on nothing else: it stays the same when other text changes."""
        return segments(piece for _, start, end in sorted(self._stretches) for piece in self._val.read(start, end))


@contextmanager
def split_corpus(documents: Iterable[Document], val_fraction: float, folder: Path) -> Iterator[SplitCorpus]:
    """The documents by split, in temporary files of `folder`. They have no names: nothing is left if the process is killed."""
    with TemporaryFile(dir=folder) as train, TemporaryFile(dir=folder) as val:
        yield SplitCorpus(documents, val_fraction, train, val)
