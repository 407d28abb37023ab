"""The files that a dataset was made of, from the Parquet that `dataset.py` wrote: a model learns from them what it would have
learnt from the originals.

A text file is its text again, byte for byte where it had LF line ends and no byte order mark: then even the digest of the
tokens is the same. Of records there is the text alone, a line of JSON each. Files are named by a hash, for a `source` may be
anybody's: it leads nowhere.
"""

import hashlib
import heapq
import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import pyarrow
import pyarrow.parquet

from ..errors import InputError
from .sources import kind_of

_COLUMNS = ["source", "position", "text"]
_ROWS = 256  # rows of a file held at a time
_Row = tuple[str, int, str]


def is_ours(parquet: Path) -> bool:
    """Whether the file has the columns that `write_dataset` writes. Raises InputError where it is no Parquet file."""
    try:
        return set(_COLUMNS) <= set(pyarrow.parquet.read_schema(parquet).names)
    except pyarrow.ArrowException as error:
        raise InputError(
            f"{parquet} is no Parquet file that can be read ({error}), so the corpus was not read.", "Publish it again."
        ) from None


def restore(parquet: Sequence[Path], folder: Path) -> list[Path]:
    """Write the files that the rows of `parquet` are from into `folder`. The memory that it takes does not grow with them.

    Raises InputError where the rows are not as `write_dataset` left them.
    """
    written = []
    for source, rows in groupby(heapq.merge(*map(_rows, parquet)), key=lambda row: row[0]):
        is_text = kind_of(Path(source)) == "text"
        name = hashlib.sha256(source.encode()).hexdigest()[:32]
        path = folder / f"{name}.{'txt' if is_text else 'jsonl'}"
        with path.open("w", encoding="utf-8", newline="") as file:
            for _, _, text in rows:
                file.write(text if is_text else json.dumps({"text": text}, ensure_ascii=False) + "\n")
        written.append(path)
    return written


def _rows(path: Path) -> Iterator[_Row]:
    """The rows of a file, which lie in their order."""
    before = ("", 0)
    with pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(_ROWS, columns=_COLUMNS):
            for row in batch.to_pylist():
                place = row["source"], row["position"]
                if None in row.values() or place < before:
                    raise InputError(
                        f"{path}: the row at position {place[1]} of {place[0]!r} is not as it was published, so the corpus was "
                        "not read.",
                        "Publish the dataset again with upload_datasets, and leave its files as they are.",
                    )
                before = place
                yield *place, row["text"]
