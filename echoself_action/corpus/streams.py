"""Opens a file of a corpus as a stream of UTF-8 bytes: decompressed, from UTF-16, without a byte order mark.

Files that are not text are refused by what they are. A compressed file is read as it is decompressed, up to a limit: a few
kilobytes can expand to more than a disk holds.
"""

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from .. import libraries
from .file_types import (
    HEAD,
    POINTER_HINT,
    Compression,
    compression_of,
    foreign_type,
    is_annex_pointer,
    is_pointer_text,
)

BLOCK = 1 << 20  # bytes read at a time
LONGEST = 1 << 28  # bytes of a record, which is in memory as a whole

_BOMBS_BELOW = 64 << 20  # bytes that any compressed file may expand to
_MOST_RATIO = 200  # of decompressed to compressed bytes, above that; text has 3 to 20
_UTF16 = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_OPENERS: dict[Compression, Callable[[Path], Any]] = {
    "gzip": gzip.open,
    "bzip2": bz2.open,
    "xz": lzma.open,
    "zstd": lambda path: libraries.pyarrow.input_stream(str(path), compression="zstd"),
}
# What to do about a file of this type that has the name of another.
_RENAMES = {
    "a gzip file": "Add .gz to its name, and it is decompressed.",
    "a bzip2 file": "Add .bz2 to its name, and it is decompressed.",
    "an xz file": "Add .xz to its name, and it is decompressed.",
    "a Zstandard file": "Add .zst to its name, and it is decompressed.",
    "a Parquet file": "Rename it to .parquet.",
}


class BadFileError(Exception):
    """The rest of a file can't be read. The message follows the path; `hint`: what to change, if it depends on the cause."""

    def __init__(self, problem: str, hint: str = "") -> None:
        super().__init__(problem)
        self.hint = hint


class _BlockStream(io.RawIOBase):
    """A file of the blocks that an iterator yields."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._rest = memoryview(block)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


@contextmanager
def open_text(path: Path) -> Iterator[io.BufferedReader]:
    """The content of a file as UTF-8, which the reader must check.

    Raises BadFileError if it is not text, OSError if it can't be read.
    """
    with path.open("rb") as stored:
        file = stored
        _refuse_pointer(file)
        if compression := compression_of(path):
            file = io.BufferedReader(_BlockStream(_decompressed(path, compression)), BLOCK)
        head = file.peek(HEAD)
        _refuse_foreign(path, head)
        if encoding := next((name for mark, name in _UTF16.items() if head.startswith(mark)), None):
            file = io.BufferedReader(_BlockStream(_transcoded(file, encoding)), BLOCK)
        elif head.startswith(codecs.BOM_UTF8):
            file.read(len(codecs.BOM_UTF8))
        yield file


def refuse_foreign(path: Path) -> None:
    """Raises BadFileError if a Parquet file is a pointer, or compressed as a whole. Raises OSError if it can't be read."""
    with path.open("rb") as file:
        _refuse_pointer(file)
    if compression_of(path):
        raise BadFileError(" is a compressed Parquet file, which can't be streamed", "Decompress it in a step before this one.")


def _refuse_pointer(file: io.BufferedReader) -> None:
    head = file.peek(HEAD + 1)
    if is_pointer_text(head):
        raise BadFileError(" is a Git LFS pointer, not the file itself", POINTER_HINT)
    if is_annex_pointer(head):
        raise BadFileError(" is a git-annex pointer, not the file itself", "Run `git annex get` after the checkout.")


def _refuse_foreign(path: Path, head: bytes) -> None:
    if what := foreign_type(path, head[:HEAD]):
        exclude = f"`!**/*{path.suffix}`" if path.suffix else f"`!{path}`"
        hint = f"Convert it to text; or exclude it, with {exclude} in `data` or on_bad_file: skip."
        raise BadFileError(f" is {what}, not text", _RENAMES.get(what, hint))


def _decompressed(path: Path, compression: Compression) -> Iterator[bytes]:
    limit = max(_BOMBS_BELOW, _MOST_RATIO * path.stat().st_size)
    size = 0
    try:
        with _OPENERS[compression](path) as file:
            while block := file.read(BLOCK):
                size += len(block)
                if size > limit:
                    raise BadFileError(
                        f" expands to more than {limit:,} bytes, {_MOST_RATIO} times its size, which text does not",
                        "If it is text all the same, decompress it in a step before this one.",
                    )
                yield block
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        reason = " ".join(str(error).split())
        raise BadFileError(f" is not a complete {compression} file ({reason})", "Download or compress it again.") from None


def _transcoded(file: BinaryIO, encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        while block := file.read(BLOCK):
            yield decoder.decode(block).encode()
        yield decoder.decode(b"", final=True).encode()
    except UnicodeDecodeError as error:
        raise BadFileError(f" is not valid {encoding.upper()} ({error.reason})", "Save it as UTF-8.") from None
