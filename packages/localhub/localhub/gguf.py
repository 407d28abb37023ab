"""The header of a GGUF file, as far as the Hub shows it. github.com/ggml-org/ggml/blob/master/docs/gguf.md specifies it."""

import math
import struct
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import pygit2

from .lfs import object_path
from .repository import Repository
from .tree import find_entry

Json = dict[str, Any]
MAX_HEADER = 16 * 1024 * 1024  # bytes: a vocabulary of 256,000 tokens takes 7 million
MAX_VALUES = 1_000_000  # keys, elements of arrays and tensors: takes about a second
MAX_TEXT = 256 * 1024  # bytes of a text that is shown
MAX_PARAMETERS = 2**53  # larger numbers are not exact in JavaScript
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _ARRAY = 8, 9
_LENGTH = struct.Struct("<Q")
_TOKENS = "tokenizer.ggml.tokens"


class _NotGgufError(Exception):
    pass


def read_gguf(repository: Repository, commit: pygit2.Commit) -> Json | None:
    """Parameters, architecture, context length and special tokens of the first .gguf file; None without a valid one."""
    names = sorted(item.name for item in commit.tree if item.name and item.name.endswith(".gguf"))
    entry = find_entry(repository, commit, names[0]) if names else None
    if entry is None or entry.is_folder:
        return None
    if entry.pointer is None:
        return _shown(BytesIO(repository.git.odb.read(entry.oid)[1]))
    return _of_file(str(object_path(repository, entry.pointer.oid)))


@lru_cache(maxsize=64)
def _of_file(path: str) -> Json | None:
    """The path contains the sha256 of the file, so the answer can't become outdated."""
    try:
        with Path(path).open("rb") as file:
            return _shown(file)
    except OSError:
        return None


def _shown(file: BinaryIO) -> Json | None:
    try:
        header = _Header(file)
    except _NotGgufError:
        return None
    found, tokens = header.values, header.tokens
    architecture = found.get("general.architecture")
    shown: Json = {"total": header.parameters, "architecture": architecture}
    shown["context_length"] = found.get(f"{architecture}.context_length")
    shown["chat_template"] = found.get("tokenizer.chat_template")
    for name in ("bos", "eos"):
        number = found.get(f"tokenizer.ggml.{name}_token_id")
        if isinstance(number, int) and 0 <= number < len(tokens):
            shown[f"{name}_token"] = tokens[number].decode("utf-8", "replace")
    return {key: value for key, value in shown.items() if value is not None}


class _Header:
    """`values`: texts and integers by their keys; `tokens`: the vocabulary. Raises _NotGgufError."""

    def __init__(self, file: BinaryIO) -> None:
        self._content = file.read(MAX_HEADER)
        self._position = 0
        self._left = MAX_VALUES
        self.values: dict[str, str | int] = {}
        self.tokens: list[bytes] = []
        if self._bytes(4) != b"GGUF" or self._number("I") not in (2, 3):
            raise _NotGgufError
        tensors, keys = self._number("Q"), self._number("Q")
        for _ in range(self._count(keys)):
            self._read_pair()
        self.parameters = sum(self._read_tensor() for _ in range(self._count(tensors)))
        if self.parameters > MAX_PARAMETERS:
            raise _NotGgufError

    def _read_pair(self) -> None:
        key, kind = self._text().decode("utf-8", "replace"), self._number("I")
        if kind == _ARRAY:
            inner, count = self._number("I"), self._count(self._number("Q"))
            if inner == _TEXT:
                self._read_texts(count, self.tokens if key == _TOKENS else None)
            elif inner in _NUMBERS:
                self._bytes(struct.calcsize(f"<{_NUMBERS[inner]}") * count)
            else:  # arrays of arrays have no use so far
                raise _NotGgufError
        elif kind == _TEXT:
            self.values[key] = self._text()[:MAX_TEXT].decode("utf-8", "replace")
        elif kind in _NUMBERS:
            value = self._number(_NUMBERS[kind])
            if _NUMBERS[kind] not in "fd?":  # NaN can't be in an answer
                self.values[key] = value
        else:
            raise _NotGgufError

    def _read_texts(self, count: int, kept: list[bytes] | None) -> None:
        content, position = self._content, self._position
        try:
            for _ in range(count):
                start = position + 8
                position = start + _LENGTH.unpack_from(content, position)[0]
                if kept is not None:
                    kept.append(content[start:position])
        except (struct.error, OverflowError):
            raise _NotGgufError from None
        self._position = position
        self._bytes(0)

    def _read_tensor(self) -> int:
        self._text()
        dimensions = self._number("I")
        if dimensions > 8:
            raise _NotGgufError
        shape = [self._number("Q") for _ in range(dimensions)]
        self._bytes(4 + 8)  # type and offset
        return min(math.prod(shape), MAX_PARAMETERS + 1)

    def _count(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise _NotGgufError
        return count

    def _text(self) -> bytes:
        return self._bytes(self._number("Q"))

    def _number(self, code: str) -> int:
        (value,) = struct.unpack(f"<{code}", self._bytes(struct.calcsize(f"<{code}")))
        return int(value) if code not in "fd" else 0

    def _bytes(self, count: int) -> bytes:
        start, self._position = self._position, self._position + count
        if self._position > len(self._content):
            raise _NotGgufError
        return self._content[start : self._position]
