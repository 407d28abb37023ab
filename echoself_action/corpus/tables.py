"""The rows of a CSV or TSV file, as records: each cell a string under the name of its column, which the first line has."""

import csv
import io
from collections.abc import Iterator
from itertools import chain
from typing import Any

from .streams import LONGEST, BadFileError

_DELIMITERS = ",;\t|"

Row = dict[str, str]


def table_rows(file: io.BufferedReader, tabs: bool) -> tuple[list[str], Iterator[Row | ValueError]]:
    """The names of the columns, and the rows; a ValueError in the place of a row that has not one cell for each of them.

    `tabs`: a TSV file, otherwise the delimiter is the one of ``, ; tab |`` that gives the first line most columns.
    Raises BadFileError, also while the rows are read, if the file is not UTF-8, or its quotes do not match.
    """
    csv.field_size_limit(LONGEST)
    lines = _lines(file)
    first = next(lines, "")
    delimiter = "\t" if tabs else max(_DELIMITERS, key=lambda sign: len(_cells(first, sign)))
    reader = csv.reader(chain([first] if first else [], lines), delimiter=delimiter, strict=True)
    names = next(_checked(reader), [])
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise BadFileError(f" has several columns `{doubled[0]}`", "Give each column a name of its own.")
    return names, _rows(reader, names)


def _rows(reader: Any, names: list[str]) -> Iterator[Row | ValueError]:
    for cells in _checked(reader):
        if len(cells) == len(names):
            yield dict(zip(names, cells, strict=True))
        elif cells:  # not a blank line
            yield ValueError(f"has {len(cells)} cells, but the table has {len(names)} columns")


def _checked(reader: Any) -> Iterator[list[str]]:
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise BadFileError(f", line {reader.line_num} is not valid CSV ({error})") from None
        yield cells


def _lines(file: io.BufferedReader) -> Iterator[str]:
    """The lines with their ends: a quoted cell can contain some."""
    text = io.TextIOWrapper(file, "utf-8", newline="")
    number = 0
    while True:
        number += 1
        try:
            line = text.readline(LONGEST)
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            raise BadFileError(f", after line {number}: byte 0x{byte:02x} is not UTF-8") from None
        if "\0" in line:
            raise BadFileError(f", line {number}: NUL byte; the file is binary, not a table")
        if len(line) == LONGEST:
            raise BadFileError(f", line {number} has more than {LONGEST:,} characters")
        if not line:
            return
        yield line


def _cells(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter), [])
