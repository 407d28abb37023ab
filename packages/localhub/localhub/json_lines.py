"""Lines of JSON in a body, read as they arrive. A long text in a line stays in a file, so that no line takes much memory."""

import codecs
import json
import re
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .refusal import Refusal, bad_request
from .web import Json, parse_json

MAX_SHORT = 1024 * 1024  # bytes of a line, or of a text in a longer one, that are held in memory
_BLOCK = 256 * 1024  # bytes
_LONGEST_ESCAPE = 12  # characters: those of a surrogate pair
# Possessive, because what can be undone takes memory. They end before an escape that the block cuts off.
_INSIDE = re.compile(rb'(?:[^"\\]++|\\[\s\S])*+')  # of a text
_WHOLE = re.compile(r"(?:[^\\]++|\\[^u]|\\u(?![dD][89abAB])[0-9a-fA-F]{4}|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[0-9a-fA-F]{4})*+")


@dataclass(frozen=True)
class LongText:
    """A text in a file, as JSON writes it between the quotes: bytes `start` to `stop`."""

    file: IO[bytes]
    start: int
    stop: int

    def pieces(self) -> Iterator[str]:
        """Raises Refusal (400) if it is not valid JSON, or has lone surrogates."""
        self.file.seek(self.start)
        left, decoder, rest = self.stop - self.start, codecs.getincrementaldecoder("utf-8")(), ""
        while left:
            block = self.file.read(min(_BLOCK, left))
            left -= len(block)
            try:
                rest += decoder.decode(block, final=not left)
                match = _WHOLE.match(rest)
                assert match is not None
                piece = json.loads(f'"{match[0]}"')
                piece.encode()
            except ValueError:
                raise _invalid() from None
            rest = rest[match.end() :]
            if len(rest) >= _LONGEST_ESCAPE:
                break
            yield piece
        if rest:
            raise _invalid()


class JsonLines:
    """Takes blocks of a body and returns the objects in its lines.

    A text of more than MAX_SHORT bytes in `value.content` is a LongText, which can be read until the next object is taken.
    `folder`: where long lines are kept meanwhile, in files without names; `too_long` is raised for more than `longest` bytes.
    """

    def __init__(self, folder: Path, longest: int, too_long: Refusal) -> None:
        self._folder, self._longest, self._too_long = folder, longest, too_long
        self._line = bytearray()
        self._file: IO[bytes] | None = None  # has the line if it is long
        self._size = 0

    def feed(self, block: bytes) -> Iterator[Json]:
        """The lines that end in this block. Raises Refusal: 413, or 400 for one that is not a JSON object."""
        start = 0
        while (end := block.find(b"\n", start)) >= 0:
            self._add(block[start:end])
            yield from self.finish()
            start = end + 1
        self._add(block[start:])

    def finish(self) -> Iterator[Json]:
        """The line that has begun, if it has. Raises Refusal."""
        line, file = bytes(self._line), self._file
        self._line, self._file, self._size = bytearray(), None, 0
        if file is not None:
            with file:
                yield _long_line(file)
        elif line.strip():
            yield parse_json(line)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _add(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self._longest:
            raise self._too_long
        if self._file is None and self._size > MAX_SHORT:
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - until the line ends
            self._file.write(self._line)
            self._line = bytearray()
        if self._file is None:
            self._line += part
        else:
            self._file.write(part)


def _long_line(file: IO[bytes]) -> Json:
    placeholder = secrets.token_hex(16)
    short, text = _without_long_text(file, placeholder)
    if text is not None:
        entry = parse_json(short)
        value = entry.get("value")
        if isinstance(value, dict) and value.get("content") == placeholder:
            value["content"] = text
            return entry
    file.seek(0)
    return parse_json(file.read())  # something else is long, such as the description of a commit


def _without_long_text(file: IO[bytes], placeholder: str) -> tuple[bytes, LongText | None]:
    """The line with a placeholder for its long text, and the text. No text if there are none or several."""
    short, text = bytearray(), None
    is_inside, start, short_start = False, 0, 0
    cut = b""  # a backslash at the end of a block
    file.seek(0)
    while read := file.read(_BLOCK):
        block, position, cut = cut + read, 0, b""
        offset = file.tell() - len(block)
        while position < len(block):
            if not is_inside:
                quote = block.find(b'"', position)
                end = quote + 1 if quote >= 0 else len(block)
                short += block[position:end]
                position, is_inside = end, quote >= 0
                start, short_start = offset + end, len(short)
                continue
            match = _INSIDE.match(block, position)
            assert match is not None
            end = match.end()
            if offset + end - start <= MAX_SHORT:
                short += block[position:end]
            if end == len(block):
                break
            if block[end : end + 1] == b"\\":
                cut = block[end:]
                break
            if offset + end - start > MAX_SHORT:
                if text is not None:
                    return b"", None
                text = LongText(file, start, offset + end)
                short[short_start:] = placeholder.encode()
            position, is_inside = end, False
            # the quote that ends the text
            short += b'"'
            position += 1
        if len(short) > 2 * MAX_SHORT:
            return b"", None
    return bytes(short), text


def _invalid() -> Refusal:
    return bad_request("The request is not valid JSON")
