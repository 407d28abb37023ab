"""Files -> documents, streamed: no file is ever in memory whole, save a `.json` that is one single record.

The suffix says what a file is: `.jsonl` and `.ndjson` (a record a line), `.json` (an array of records, or one record),
`.parquet`, and anything else is UTF-8 text: prose, Markdown, source code. For what a record holds, see `records.py`.
A file that is not what its name says is refused, with file and line, or passed over with a warning.
"""

import codecs
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import ijson
import pyarrow
import pyarrow.parquet

from ..errors import InputError
from .chunking import cut_passages
from .records import TEXT_KEYS, text_of_record

OnBadFile = Literal["fail", "skip"]
Kind = Literal["text", "jsonl", "json", "parquet"]
Warn = Callable[[str], None]

_BLOCK = 1 << 20  # bytes read at a time
_PARQUET_ROWS = 256  # rows held at a time; a row can be a whole book
_BOM = codecs.BOM_UTF8


@dataclass(frozen=True)
class Document:
    """What goes to train or validation as a whole: a chat, a row, or a passage of a text file."""

    text: str  # never empty; LF line ends
    source: str  # "path", or "path:n" for line n of JSON Lines and record n of JSON and Parquet, from 1
    continues: bool = False  # a passage that follows the document before it in the same file


class _BadFileError(Exception):
    """A file is not what its name says; from here on nothing of it can be read. The message follows the path."""


def kind_of(path: Path) -> Kind:
    """What a file is taken for, by its suffix."""
    match path.suffix.lower():
        case ".jsonl" | ".ndjson":
            return "jsonl"
        case ".json":
            return "json"
        case ".parquet":
            return "parquet"
        case _:
            return "text"


def read_documents(files: Iterable[Path], on_bad_file: OnBadFile, warn: Warn) -> Iterator[Document]:
    """The documents of `files`, in order.

    What can't be read raises InputError under "fail". Under "skip", `warn` is told of each such file, and what can be
    read of it is: the other records where some have no text, what stands before it where a file breaks midway.
    """
    for path in files:
        skipped = _Skipped(path, on_bad_file)
        documents = 0
        try:
            for document in _READERS[kind_of(path)](path, skipped):
                documents += 1
                yield document
            if not documents and not skipped.records:
                raise _BadFileError(" is empty")
        except OSError as error:
            skipped.rest(f" can't be read ({error.strerror or error})")
        except _BadFileError as error:
            skipped.rest(str(error))
        skipped.report(warn, documents)


class _Skipped:
    """What is wrong in one file: raised at once under "fail", told at the file's end under "skip"."""

    def __init__(self, path: Path, on_bad_file: OnBadFile) -> None:
        self.path = path
        self.on_bad_file = on_bad_file
        self.records = 0
        self.first = ""
        self.broken = ""

    def record(self, problem: str) -> None:
        self._refuse(problem)
        self.records += 1
        self.first = self.first or problem

    def rest(self, problem: str) -> None:
        self._refuse(problem)
        self.broken = problem

    def _refuse(self, problem: str) -> None:
        if self.on_bad_file == "fail":
            raise InputError(
                f"{self.path}{problem}, so the corpus was not read.",
                "Mend the file, take it out of `data`, or set on_bad_file to skip.",
                file=str(self.path),
            )

    def report(self, warn: Warn, documents: int) -> None:
        if self.records:
            others = f"; with it, {self.records} records of this file can't be used" if self.records > 1 else ""
            warn(f"Skipped a record: {self.path}{self.first}{others}.")
        if self.broken:
            what = f"the rest of a file after {documents:,} documents" if documents else "a file"
            warn(f"Skipped {what}: {self.path}{self.broken}.")


def _read_text(path: Path, _skipped: _Skipped) -> Iterator[Document]:
    for number, passage in enumerate(cut_passages(_decoded_blocks(path))):
        yield Document(passage, str(path), continues=number > 0)


def _decoded_blocks(path: Path) -> Iterator[str]:
    """A text file's blocks with LF line ends. Raises _BadFileError at what is not UTF-8 text."""
    newlines = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8-sig")(), translate=True)
    line = 1
    blank = True
    with path.open("rb") as file:
        while True:
            block = file.read(_BLOCK)
            if b"\0" in block:
                line += block.count(b"\n", 0, block.index(b"\0"))
                raise _BadFileError(f", line {line}: a NUL byte, so this is no UTF-8 text but a binary file or UTF-16")
            try:
                text = newlines.decode(block, final=not block)
            except UnicodeDecodeError as error:
                line += error.object.count(b"\n", 0, error.start)
                byte = error.object[error.start]
                raise _BadFileError(f", line {line}: byte 0x{byte:02x} is not UTF-8") from None
            line += block.count(b"\n")
            # A file of nothing but white space is an empty file.
            blank = blank and (not text or text.isspace())
            if not blank:
                yield text
            if not block:
                return


def _read_jsonl(path: Path, skipped: _Skipped) -> Iterator[Document]:
    with path.open("rb") as file:
        _skip_bom(file)
        first = True
        for number, raw in enumerate(file, 1):
            if raw.isspace():
                continue
            if first and raw.lstrip().startswith(b"["):
                raise _BadFileError(f", line {number}: a JSON array, not a record a line; name the file .json")
            first = False
            try:
                yield Document(text_of_record(json.loads(raw.decode())), f"{path}:{number}")
            except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors too
                skipped.record(f", line {number} {_told(error)}")
            except RecursionError:
                skipped.record(f", line {number} is JSON nested too deeply")


def _read_json(path: Path, skipped: _Skipped) -> Iterator[Document]:
    with path.open("rb") as file:
        _skip_bom(file)
        start = file.tell()
        first = next((byte for byte in iter(lambda: file.read(1), b"") if not byte.isspace()), b"")
        file.seek(start)
        if not first:
            return
        records = ijson.items(file, "item") if first == b"[" else iter([_single_record(file)])
        number = 0
        while True:
            number += 1
            try:
                record = next(records)
            except StopIteration:
                return
            except (ijson.JSONError, UnicodeDecodeError) as error:
                raise _BadFileError(f", record {number} is broken JSON ({_told(error)})") from None
            try:
                yield Document(text_of_record(record), f"{path}:{number}")
            except ValueError as error:
                skipped.record(f", record {number} {_told(error)}")


def _single_record(file: BinaryIO) -> object:
    try:
        return json.loads(file.read().decode())
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            raise _BadFileError(f", line {error.lineno}: more than one record; name the file .jsonl") from None
        raise _BadFileError(f", line {error.lineno} is broken JSON ({error.msg})") from None
    except UnicodeDecodeError as error:
        raise _BadFileError(f" {_told(error)}") from None
    except RecursionError:
        raise _BadFileError(" is JSON nested too deeply") from None


def _read_parquet(path: Path, skipped: _Skipped) -> Iterator[Document]:
    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            names = set(table.schema_arrow.names)
            columns = next((keys for keys in TEXT_KEYS if names.issuperset(keys)), None)
            if columns is None:
                raise _BadFileError(f" has no `text` or `messages` column (it has {', '.join(sorted(names))})")
            if columns == ("instruction", "output") and "input" in names:
                columns = (*columns, "input")
            number = 0
            for batch in table.iter_batches(_PARQUET_ROWS, columns=list(columns)):
                for record in batch.to_pylist():
                    number += 1
                    try:
                        yield Document(text_of_record(record), f"{path}:{number}")
                    except ValueError as error:
                        skipped.record(f", record {number} {_told(error)}")
    except pyarrow.ArrowException as error:
        raise _BadFileError(f" is no Parquet file that can be read ({_told(error)})") from None


def _skip_bom(file: BinaryIO) -> None:
    if file.read(len(_BOM)) != _BOM:
        file.seek(0)


def _told(error: Exception) -> str:
    """An error's message, in one line."""
    if isinstance(error, json.JSONDecodeError):
        return f"is broken JSON ({error.msg}, column {error.colno})"
    if isinstance(error, UnicodeDecodeError):
        return f"is not UTF-8 (byte 0x{error.object[error.start]:02x})"
    return " ".join(str(error).split())


_READERS: dict[Kind, Callable[[Path, _Skipped], Iterator[Document]]] = {
    "text": _read_text,
    "jsonl": _read_jsonl,
    "json": _read_json,
    "parquet": _read_parquet,
}
