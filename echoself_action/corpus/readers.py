"""Files -> documents, streamed: no file is loaded into memory at once, except a notebook or a `.json` with a single record.

The suffix determines the format: JSON Lines (one record per line), JSON (an array of records, or one record), tables (CSV,
TSV), Parquet, and notebooks; any other file is text, such as Markdown or source code. See `file_types.py` for the suffixes,
`streams.py` for compressed files and for those that are not text, and `records.py` for the contents of a record.
An invalid file is an error with file and line, or skipped with a warning.
"""

import codecs
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .. import libraries
from ..errors import InputError
from .chats import ROLE_KEYS
from .chunking import cut_passages
from .file_types import Kind, has_tabs, is_passages, kind_of
from .findings import SKIPPED_FILES, SKIPPED_RECORDS, SKIPPED_RESTS, FileFindings, Report, shortened, shown_path
from .json_array import array_elements
from .notebooks import read_notebook
from .records import KEYS_NOT_LEARNT, KNOWN_KEYS, Records, has_shape
from .streams import BLOCK, LONGEST, BadFileError, open_text, refuse_foreign
from .tables import table_rows

OnBadFile = Literal["fail", "skip"]

_PARQUET_ROWS = 256  # rows in memory at a time; a row can be as long as a book
_EMPTY_FILES, _LEFT_OUT = "files without text", "notebook outputs left out"


@dataclass(frozen=True)
class Document:
    """The unit that is assigned to a split: a chat, a row, or a passage of a text file."""

    text: str  # never empty; LF line ends
    source: str  # "path", or "path:n" for line n of JSON Lines and record n of JSON and Parquet, from 1
    continues: bool = False  # this passage directly follows the previous document in the same file
    question: str = ""  # of a record that ends with an answer: what the user said before it
    answer: str = ""  # the answer, with which the text ends
    dimension: str = ""  # the persona dimension that the record names


def read_documents(
    files: Iterable[Path], on_bad_file: OnBadFile, report: Report, text_column: str | None = None
) -> Iterator[Document]:
    """The documents of `files`, in order. `report` is called at the end of each file, with what is not in them.

    Under "fail", invalid content raises InputError. Under "skip" it is reported, and the valid content is read: the records
    with text, and everything before the place where a file is broken. `text_column` names the field or column with the text.
    """
    for path in files:
        skipped = _Skipped(path, on_bad_file, text_column)
        documents = 0
        try:
            for document in _READERS[kind_of(path)](path, skipped):
                documents += 1
                yield document
            if not documents and not skipped.records:
                skipped.empty()
        except OSError as error:
            skipped.rest(f" can't be read ({error.strerror or error})")
        except BadFileError as error:
            skipped.rest(str(error), error.hint)
        skipped.report(report, documents)


class _Skipped:
    """The findings of one file. Invalid content is raised at once under "fail", and counted under "skip"."""

    def __init__(self, path: Path, on_bad_file: OnBadFile, text_column: str | None) -> None:
        self.path = path
        self.on_bad_file = on_bad_file
        self.findings = FileFindings(shown_path(path))
        self.records = 0  # that have no document
        self.broken = ""
        self._text_column = text_column
        self._reader = Records(self.findings, text_column)

    def documents(self, record: object, unit: str, number: int) -> Iterator[Document]:
        """The document of a record, or none. `unit` is what is counted: "line", "record" or "row"."""
        try:
            read = self._reader.read(record, f"{unit} {number}")
        except ValueError as error:
            self.record(f", {unit} {number} {_one_line(error)}")
            return
        if read is None:
            self.records += 1
        else:
            source = f"{self.path}:{number}"
            yield Document(read.text, source, question=read.question, answer=read.answer, dimension=read.dimension)

    def columns(self, names: Sequence[str]) -> list[str]:
        """The columns of a table to read. The others may be large, such as images. Raises BadFileError if there is no text."""
        wanted = KNOWN_KEYS if self._text_column is None else {self._text_column}
        columns = [name for name in names if name in wanted]
        if not columns or (self._text_column is None and not has_shape(columns)):
            missing = "`text` or `messages`" if self._text_column is None else f"`{self._text_column}`"
            found = shortened(", ".join(sorted(names)))
            raise BadFileError(f" has no {missing} column (it has {found}); text_column names the column with the text")
        for name in names:
            if name not in columns:
                self.findings.add_name(KEYS_NOT_LEARNT, name, is_loss=False)
        return columns

    def record(self, problem: str) -> None:
        self._refuse(problem)
        self.records += 1
        self.findings.add(SKIPPED_RECORDS, problem.lstrip(", "))

    def rest(self, problem: str, hint: str = "") -> None:
        self._refuse(problem, hint)
        self.broken = problem

    def empty(self) -> None:
        """Count a text without a character, as an `__init__.py` may be. A file of records that has none is a bad file."""
        if not is_passages(self.path):
            raise BadFileError(" is empty")
        self.findings.add(_EMPTY_FILES, "is empty", is_loss=False)

    def _refuse(self, problem: str, hint: str = "") -> None:
        if self.on_bad_file == "fail":
            raise InputError(
                f"{self.path}{problem}, so the corpus was not read.",
                hint or "Fix the file, remove it from `data`, or set on_bad_file: skip.",
                file=str(self.path),
            )

    def report(self, report: Report, documents: int) -> None:
        if self.broken:
            after = f" (after {documents:,} documents)" if documents else ""
            self.findings.add(SKIPPED_RESTS if documents else SKIPPED_FILES, self.broken.lstrip(", ") + after)
        self.findings.report_to(report)


def _read_text(path: Path, _skipped: _Skipped) -> Iterator[Document]:
    with open_text(path) as file:
        yield from _passages(path, _decoded_blocks(file))


def _read_notebook(path: Path, skipped: _Skipped) -> Iterator[Document]:
    with open_text(path) as file:
        content = file.read(LONGEST + 1)
    if len(content) > LONGEST:
        raise BadFileError(f" has more than {LONGEST:,} bytes")
    if not content or content.isspace():
        return
    try:
        notebook = read_notebook(content)
    except ValueError as error:
        raise BadFileError(str(error)) from None
    if left_out := notebook.outputs + notebook.attachments:
        example = f"{notebook.outputs} outputs and {notebook.attachments} attachments of cells"
        skipped.findings.add(_LEFT_OUT, example, is_loss=False, count=left_out)
    yield from _passages(path, [notebook.text])


def _passages(path: Path, blocks: Iterable[str]) -> Iterator[Document]:
    for number, passage in enumerate(cut_passages(blocks)):
        yield Document(passage, str(path), continues=number > 0)


def _decoded_blocks(file: io.BufferedReader) -> Iterator[str]:
    """The blocks of a text, with LF line ends. Raises BadFileError if it is not UTF-8 text."""
    newlines = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")(), translate=True)
    line = 1
    blank = True
    while True:
        block = file.read(BLOCK)
        if b"\0" in block:
            line += block.count(b"\n", 0, block.index(b"\0"))
            raise BadFileError(f", line {line}: NUL byte; the file is binary, or UTF-16 without a byte order mark")
        try:
            text = newlines.decode(block, final=not block)
        except UnicodeDecodeError as error:
            line += error.object.count(b"\n", 0, error.start)
            byte = error.object[error.start]
            raise BadFileError(f", line {line}: byte 0x{byte:02x} is not UTF-8") from None
        line += block.count(b"\n")
        # a file with only white space counts as empty
        blank = blank and (not text or text.isspace())
        if not blank:
            yield text
        if not block:
            return


def _read_jsonl(path: Path, skipped: _Skipped) -> Iterator[Document]:
    with open_text(path) as file:
        first = True
        for number, raw in enumerate(iter(lambda: file.readline(LONGEST), b""), 1):
            if raw.isspace():
                continue
            if first and raw.lstrip().startswith(b"[") and not _is_chat(raw):
                raise BadFileError(f", line {number}: a JSON array instead of one record per line; rename the file to .json")
            if len(raw) == LONGEST:
                raise BadFileError(f", line {number} has more than {LONGEST:,} bytes")
            first = False
            yield from _record(raw, "line", number, skipped)


def _read_json(path: Path, skipped: _Skipped) -> Iterator[Document]:
    with open_text(path) as file:
        while (first := file.peek(1)[:1]).isspace():
            file.read(1)
        if not first:
            return
        if first == b"[":
            for number, raw in enumerate(array_elements(file), 1):
                yield from _record(raw, "record", number, skipped)
            return
        raw = file.read(LONGEST + 1)
        if len(raw) > LONGEST:
            raise BadFileError(f" has more than {LONGEST:,} bytes")
        _refuse_several(raw)
        yield from _record(raw, "record", 1, skipped)


def _is_chat(line: bytes) -> bool:
    """Whether a line is a list of messages, as nanochat writes its conversations."""
    try:
        messages = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(messages, list) and all(
        isinstance(one, dict) and any(key in one for key in ROLE_KEYS) for one in messages
    )


def _record(raw: bytes, unit: str, number: int, skipped: _Skipped) -> Iterator[Document]:
    """The document of a record as it is in the file; none if it was skipped."""
    try:
        record = decode_record(raw)
    except ValueError as error:
        skipped.record(f", {unit} {number} {error}")
    else:
        yield from skipped.documents(record, unit, number)


def decode_record(raw: bytes) -> object:
    """The JSON of one record. Raises ValueError if it is invalid; the message continues "line N ..."."""
    try:
        return _DECODER.decode(raw.decode())
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors too
        raise ValueError(_one_line(error)) from None
    except RecursionError:
        raise ValueError("is JSON nested too deeply") from None


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object. Raises ValueError if it has a key twice, of which only one value would be kept."""
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"has the key `{next(name for name in names if names.count(name) > 1)}` twice")
    return record


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def _refuse_several(raw: bytes) -> None:
    """Raises BadFileError if the content of a `.json` is not one value."""
    try:
        json.loads(raw)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            raise BadFileError(f", line {error.lineno}: more than one record; rename the file to .jsonl") from None
        raise BadFileError(f", line {error.lineno} is invalid JSON ({error.msg})") from None
    except (UnicodeDecodeError, RecursionError):
        return  # a problem of the record


def _read_table(path: Path, skipped: _Skipped) -> Iterator[Document]:
    with open_text(path) as file:
        names, rows = table_rows(file, has_tabs(path))
        if not names:
            return
        columns = skipped.columns(names)
        for number, row in enumerate(rows, 1):
            if isinstance(row, ValueError):
                skipped.record(f", row {number} {_one_line(row)}")
            else:
                yield from skipped.documents({name: row[name] for name in columns}, "row", number)


def _read_parquet(path: Path, skipped: _Skipped) -> Iterator[Document]:
    pyarrow = libraries.pyarrow
    refuse_foreign(path)
    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            columns = skipped.columns(table.schema_arrow.names)
            number = 0
            for batch in table.iter_batches(_PARQUET_ROWS, columns=columns):
                for record in _rows(batch):
                    number += 1
                    if isinstance(record, UnicodeDecodeError):
                        skipped.record(f", record {number} {_one_line(record)}")
                    else:
                        yield from skipped.documents(record, "record", number)
    except pyarrow.ArrowException as error:
        raise BadFileError(f" is not a readable Parquet file ({_one_line(error)})") from None


def _rows(batch: Any) -> list[Any]:
    """The rows of a `RecordBatch` as dicts; an error in the place of a row with strings that are not UTF-8."""
    try:
        return batch.to_pylist()  # type: ignore[no-any-return]
    except UnicodeDecodeError as error:
        return [error] if len(batch) == 1 else [row for number in range(len(batch)) for row in _rows(batch.slice(number, 1))]


def _one_line(error: Exception) -> str:
    """The message of an error, on one line."""
    if isinstance(error, json.JSONDecodeError):
        return f"is invalid JSON ({error.msg}, column {error.colno})"
    if isinstance(error, UnicodeDecodeError):
        return f"is not UTF-8 (byte 0x{error.object[error.start]:02x})"
    return shortened(str(error))


_READERS: dict[Kind, Callable[[Path, _Skipped], Iterator[Document]]] = {
    "text": _read_text,
    "notebook": _read_notebook,
    "jsonl": _read_jsonl,
    "table": _read_table,
    "json": _read_json,
    "parquet": _read_parquet,
}
