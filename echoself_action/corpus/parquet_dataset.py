"""Documents -> Parquet files: byte for byte the same for the same documents, and unchanged if only other documents change.

    train.parquet  validation.parquet                     columns: text, source, position
    train-0.parquet  train-10.parquet  train-11.parquet   if a split is larger than a shard

A row is a document: a passage of a text file, or a record. `source` is the path of its file in the workspace,
`position` the passage in it, or the line (JSON Lines) or record, from 1; sorted by both, the passages of a text file are its
text.

A row's shard is given by the first bits of a hash of its source, and then of its text, as many bits as keep a shard within
`SHARD_BYTES` (Fagin et al., "Extendible Hashing", TODS 1979). No shard's name or content depends on another:
a changed file changes its own shard, and a shard that becomes too large is split in two without moving other rows. The source
comes first, so that the passages of a file stay together, then the text, so that one large file can be split too.

`restore` writes the files that a dataset was made from: training on them equals training on the originals. A text file is
restored byte for byte if it had LF line ends and no byte order mark, so the digest of its tokens is the same. Of a record only
the text is restored, as a line of JSON. Files are named by a hash, because the `source` in a dataset is not trusted as a path.
"""

import hashlib
import heapq
import json
import os
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal

from .. import libraries
from ..errors import InputError
from .file_types import is_passages, kind_of
from .findings import Report
from .readers import OnBadFile, read_documents
from .split import is_validation
from .tokens import hash_file

Split = Literal["train", "validation"]
SPLITS: tuple[Split, ...] = ("train", "validation")
SHARD_BYTES = 200_000_000  # of text
_GROUP_BYTES = 4_000_000  # of text in a row group, which is in memory before it is written
_SOURCE_BITS, _BITS = 16, 48  # of a row's key: those of its source, and all


@dataclass(frozen=True)
class Row:
    """A document in its split. `line` is its first line in its file, from 1; None for formats without lines.

    A record is one line of its file, even if its text has several.
    """

    split: Split
    text: str
    source: str
    position: int
    line: int | None
    is_record: bool
    path: Path

    def line_of(self, line: int) -> int | None:
        """The line in the file of line `line` of the text, both from 1."""
        return self.line if self.line is None or self.is_record else self.line + line - 1


@dataclass(frozen=True)
class SplitSize:
    """`bytes` is the size of the rows in memory, as `datasets` counts it."""

    rows: int
    bytes: int


@dataclass(frozen=True)
class Dataset:
    """Parquet files by name, and the size of each split that has rows."""

    files: dict[str, Path]
    splits: dict[Split, SplitSize]


def read_rows(
    files: Iterable[Path],
    root: Path,
    val_fraction: float,
    on_bad_file: OnBadFile,
    report: Report,
    text_column: str | None = None,
) -> Iterator[Row]:
    """The documents of `files` in the workspace `root`, ordered by source, each in its split in training.

    Raises InputError as `read_documents` does.
    """
    for source, path in sorted((_source(path, root), path) for path in files):
        is_text = is_passages(path)
        line = 1
        for number, document in enumerate(read_documents([path], on_bad_file, report, text_column), 1):
            position = number if is_text else int(document.source.rpartition(":")[2])
            split: Split = "validation" if is_validation(document.text, val_fraction) else "train"
            where = line if kind_of(path) == "text" else position if kind_of(path) == "jsonl" else None
            yield Row(split, document.text, source, position, where, not is_text, path)
            line += document.text.count("\n")


def write_dataset(rows: Callable[[], Iterable[Row]], folder: Path, shard_bytes: int = SHARD_BYTES) -> Dataset:
    """Write the rows to `folder`. `rows` is called twice; memory does not grow with the amount of text."""
    sizes: dict[Split, list[tuple[int, int]]] = {split: [] for split in SPLITS}
    for row in rows():
        sizes[row.split].append((_key(row), len(row.text.encode())))
    shards = {split: list(_shards(sorted(keys), shard_bytes)) for split, keys in sizes.items() if keys}
    counts: dict[Split, list[int]] = {split: [0, 0] for split in shards}
    files: dict[str, Path] = {}
    with ExitStack() as stack:
        writers: dict[tuple[Split, str], _Writer] = {}
        for split, named in shards.items():
            for _, bits in named:
                name = f"{split}-{bits}.parquet" if bits else f"{split}.parquet"
                files[name] = folder / name
                writers[split, bits] = stack.enter_context(_Writer(files[name], counts[split]))
        for row in rows():
            named = shards[row.split]
            _, bits = named[bisect_right(named, _key(row), key=lambda shard: shard[0]) - 1]
            writers[row.split, bits].add(row)
    return Dataset(files, {split: SplitSize(*count) for split, count in counts.items()})


class _Writer:
    """Writes one file in row groups, and adds the rows and bytes written to `count`."""

    def __init__(self, path: Path, count: list[int]) -> None:
        pyarrow = libraries.pyarrow
        self._schema = pyarrow.schema([("text", pyarrow.string()), ("source", pyarrow.string()), ("position", pyarrow.int64())])
        # content-defined chunks: Xet uploads only the chunks of a shard that changed
        self._file = pyarrow.parquet.ParquetWriter(
            path, self._schema, compression="zstd", write_page_index=True, use_content_defined_chunking=True
        )
        self._count = count
        self._columns: dict[str, list[str | int]] = defaultdict(list)
        self._bytes = 0

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._file.close()

    def add(self, row: Row) -> None:
        for name in self._schema.names:
            self._columns[name].append(getattr(row, name))
        self._bytes += len(row.text)
        if self._bytes >= _GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if not self._columns:
            return
        table = libraries.pyarrow.table(self._columns, self._schema)
        self._file.write_table(table, row_group_size=len(table))
        self._count[0] += len(table)
        self._count[1] += table.nbytes
        self._columns.clear()
        self._bytes = 0


def _shards(keys: Sequence[tuple[int, int]], limit: int, low: int = 0, depth: int = 0) -> Iterator[tuple[int, str]]:
    """The lowest key of each shard, and the common first bits of its keys. `keys` are sorted, each with its size in bytes."""
    if depth == _BITS or sum(size for _, size in keys) <= limit:
        yield low, format(low >> (_BITS - depth), f"0{depth}b") if depth else ""
        return
    middle = low | 1 << (_BITS - depth - 1)
    at = bisect_left(keys, (middle, 0))
    for half, start in ((keys[:at], low), (keys[at:], middle)):
        if half:
            yield from _shards(half, limit, start, depth + 1)


def _key(row: Row) -> int:
    by_text = _BITS - _SOURCE_BITS
    return _hashed(row.source, _SOURCE_BITS) << by_text | _hashed(row.text, by_text)


def _hashed(text: str, bits: int) -> int:
    digest = hashlib.blake2b(text.encode(), digest_size=8, person=b"echoself shard").digest()
    return int.from_bytes(digest) >> (64 - bits)


def _source(path: Path, root: Path) -> str:
    """The path in the workspace. A file outside it is named by its content, so that no private path is published."""
    plain = Path(os.path.normpath(path.absolute()))
    workspace = Path(os.path.normpath(root.absolute()))
    if plain.is_relative_to(workspace):
        name = plain.relative_to(workspace).as_posix()
    else:
        name = f"../{hash_file(path)[:16]}/{path.name}"
    return os.fsencode(name).decode("utf-8", "replace")


_COLUMNS = ["source", "position", "text"]
_ROWS = 256  # rows of a file held at a time
_Row = tuple[str, int, str]


def is_ours(parquet: Path) -> bool:
    """Whether the file has the columns that `write_dataset` writes. Raises InputError if it is not a Parquet file."""
    pyarrow = libraries.pyarrow
    try:
        return set(_COLUMNS) <= set(pyarrow.parquet.read_schema(parquet).names)
    except pyarrow.ArrowException as error:
        raise InputError(
            f"{parquet} is not a readable Parquet file ({error}), so the corpus was not read.", "Publish it again."
        ) from None


def restore(parquet: Sequence[Path], folder: Path) -> dict[Path, str]:
    """Write the source files of the rows of `parquet` to `folder`, and return their paths, each with its source.

    Memory does not grow with their size.

    Raises InputError if rows were changed since `write_dataset` wrote them.
    """
    written = {}
    for source, rows in groupby(heapq.merge(*map(_rows, parquet)), key=lambda row: row[0]):
        is_text = is_passages(Path(source))
        name = hashlib.sha256(source.encode()).hexdigest()[:32]
        path = folder / f"{name}.{'txt' if is_text else 'jsonl'}"
        with path.open("w", encoding="utf-8", newline="") as file:
            for _, _, text in rows:
                file.write(text if is_text else json.dumps({"text": text}, ensure_ascii=False) + "\n")
        written[path] = source
    return written


def _rows(path: Path) -> Iterator[_Row]:
    """The rows of a file, after a check of their order."""
    before = ("", 0)
    with libraries.pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(_ROWS, columns=_COLUMNS):
            for row in batch.to_pylist():
                place = row["source"], row["position"]
                if None in row.values() or place < before:
                    raise InputError(
                        f"{path}: the row at position {place[1]} of {place[0]!r} is out of order or has missing values, so the "
                        "corpus was not read.",
                        "Publish the dataset again with upload_datasets, and do not modify its files.",
                    )
                before = place
                yield *place, row["text"]
