"""Files -> documents, streamed: no file is loaded into memory at once, except a `.json` with a single record.

The suffix determines the format: `.jsonl` and `.ndjson` (one record per line), `.json` (an array of records, or one record),
`.parquet`; any other file is UTF-8 text, such as Markdown or source code. See `records.py` for the contents of a record.
An invalid file is an error with file and line, or skipped with a warning.
"""

import codecs
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import ijson

from .. import libraries
from ..errors import InputError
from .chunking import cut_passages
from .findings import SKIPPED_FILES, SKIPPED_RECORDS, SKIPPED_RESTS, FileFindings, Report
from .records import TEXT_KEYS, text_of_record

OnBadFile = Literal["fail", "skip"]
Kind = Literal["text", "jsonl", "json", "parquet"]

_BLOCK = 1 << 20  # bytes read at a time
_PARQUET_ROWS = 256  # rows in memory at a time; a row can be as long as a book
_BOM = codecs.BOM_UTF8


@dataclass(frozen=True)
class Document:
    """The unit that is assigned to a split: a chat, a row, or a passage of a text file."""

    text: str  # never empty; LF line ends
    source: str  # "path", or "path:n" for line n of JSON Lines and record n of JSON and Parquet, from 1
    continues: bool = False  # this passage directly follows the previous document in the same file


class _BadFileError(Exception):
    """The rest of a file can't be read. The message follows the path."""


def kind_of(path: Path) -> Kind:
    """The format of a file, by its suffix."""
    match path.suffix.lower():
        case ".jsonl" | ".ndjson":
            return "jsonl"
        case ".json":
            return "json"
        case ".parquet":
            return "parquet"
        case _:
            return "text"


def read_documents(files: Iterable[Path], on_bad_file: OnBadFile, report: Report) -> Iterator[Document]:
    """The documents of `files`, in order. `report` is called at the end of each file, with what is not in them.

    Under "fail", invalid content raises InputError. Under "skip" it is reported, and the valid content is read: the records
    with text, and everything before the place where a file is broken.
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
        skipped.report(report, documents)


class _Skipped:
    """The findings of one file. Invalid content is raised at once under "fail", and counted under "skip"."""

    def __init__(self, path: Path, on_bad_file: OnBadFile) -> None:
        self.path = path
        self.on_bad_file = on_bad_file
        self.findings = FileFindings(str(path))
        self.records = 0
        self.broken = ""

    def record(self, problem: str) -> None:
        self._refuse(problem)
        self.records += 1
        self.findings.add(SKIPPED_RECORDS, problem.lstrip(", "))

    def rest(self, problem: str) -> None:
        self._refuse(problem)
        self.broken = problem

    def _refuse(self, problem: str) -> None:
        if self.on_bad_file == "fail":
            raise InputError(
                f"{self.path}{problem}, so the corpus was not read.",
                "Fix the file, remove it from `data`, or set on_bad_file: skip.",
                file=str(self.path),
            )

    def report(self, report: Report, documents: int) -> None:
        if self.broken:
            after = f" (after {documents:,} documents)" if documents else ""
            self.findings.add(SKIPPED_RESTS if documents else SKIPPED_FILES, self.broken.lstrip(", ") + after)
        self.findings.report_to(report)


def _read_text(path: Path, _skipped: _Skipped) -> Iterator[Document]:
    for number, passage in enumerate(cut_passages(_decoded_blocks(path))):
        yield Document(passage, str(path), continues=number > 0)


def _decoded_blocks(path: Path) -> Iterator[str]:
    """The blocks of a text file, with LF line ends. Raises _BadFileError if it is not UTF-8 text."""
    newlines = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8-sig")(), translate=True)
    line = 1
    blank = True
    with path.open("rb") as file:
        while True:
            block = file.read(_BLOCK)
            if b"\0" in block:
                line += block.count(b"\n", 0, block.index(b"\0"))
                raise _BadFileError(f", line {line}: NUL byte; the file is binary or UTF-16, not UTF-8 text")
            try:
                text = newlines.decode(block, final=not block)
            except UnicodeDecodeError as error:
                line += error.object.count(b"\n", 0, error.start)
                byte = error.object[error.start]
                raise _BadFileError(f", line {line}: byte 0x{byte:02x} is not UTF-8") from None
            line += block.count(b"\n")
            # a file with only white space counts as empty
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
                raise _BadFileError(f", line {number}: a JSON array instead of one record per line; rename the file to .json")
            first = False
            try:
                yield Document(text_of_record(json.loads(raw.decode())), f"{path}:{number}")
            except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors too
                skipped.record(f", line {number} {_one_line(error)}")
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
                raise _BadFileError(f", record {number} is invalid JSON ({_one_line(error)})") from None
            try:
                yield Document(text_of_record(record), f"{path}:{number}")
            except ValueError as error:
                skipped.record(f", record {number} {_one_line(error)}")


def _single_record(file: BinaryIO) -> object:
    try:
        return json.loads(file.read().decode())
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            raise _BadFileError(f", line {error.lineno}: more than one record; rename the file to .jsonl") from None
        raise _BadFileError(f", line {error.lineno} is invalid JSON ({error.msg})") from None
    except UnicodeDecodeError as error:
        raise _BadFileError(f" {_one_line(error)}") from None
    except RecursionError:
        raise _BadFileError(" is JSON nested too deeply") from None


def _read_parquet(path: Path, skipped: _Skipped) -> Iterator[Document]:
    pyarrow = libraries.pyarrow
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
                        skipped.record(f", record {number} {_one_line(error)}")
    except pyarrow.ArrowException as error:
        raise _BadFileError(f" is not a readable Parquet file ({_one_line(error)})") from None


def _skip_bom(file: BinaryIO) -> None:
    if file.read(len(_BOM)) != _BOM:
        file.seek(0)


def _one_line(error: Exception) -> str:
    """The message of an error, on one line."""
    if isinstance(error, json.JSONDecodeError):
        return f"is invalid JSON ({error.msg}, column {error.colno})"
    if isinstance(error, UnicodeDecodeError):
        return f"is not UTF-8 (byte 0x{error.object[error.start]:02x})"
    return " ".join(str(error).split())


_READERS: dict[Kind, Callable[[Path, _Skipped], Iterator[Document]]] = {
    "text": _read_text,
    "jsonl": _read_jsonl,
    "json": _read_json,
    "parquet": _read_parquet,
}
