"""Documents -> Parquet files that are the same, byte for byte, wherever the same documents are written; and that stay the
same where others change.

    train.parquet  validation.parquet                     columns: text, source, position
    train-0.parquet  train-10.parquet  train-11.parquet   where a split is larger than a shard

A row is a document as it was split: a passage of a text file, or a record. `source` is the path of its file in the workspace,
`position` the passage in it, or the line (JSON Lines) or record, from 1; sorted by both, the passages of a text file are its
text.

A row's shard is given by the first bits of a hash of its source, and then of its text, as many bits as keep a shard within
`SHARD_BYTES` (Fagin et al., "Extendible Hashing", TODS 1979). No shard's name or content depends on what lies in another:
a changed file changes the shard that it is in, and a shard that outgrows its size becomes two and moves no other row. By
source first, because the passages of an edited file stay together; by text then, so that one large file is shared out too.

`restore` writes the files that a dataset was made from: training on them equals training on the originals. A text file is
restored byte for byte if it had LF line ends and no byte order mark, so the digest of its tokens is the same. Of a record only
the text is restored, as a line of JSON. Files are named by a hash, because a `source` may come from anybody and is not trusted
as a path.
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

import pyarrow
import pyarrow.parquet

from ..errors import InputError
from .readers import OnBadFile, kind_of, read_documents
from .split import is_validation
from .tokens import hash_file

Split = Literal["train", "validation"]
SPLITS: tuple[Split, ...] = ("train", "validation")
SHARD_BYTES = 200_000_000  # of text
_GROUP_BYTES = 4_000_000  # of text that is held for a shard before it is written; a row group
_SOURCE_BITS, _BITS = 16, 48  # of a row's hash that are its source's; all of them
_SCHEMA = pyarrow.schema([("text", pyarrow.string()), ("source", pyarrow.string()), ("position", pyarrow.int64())])


@dataclass(frozen=True)
class Row:
    """A document, in its split. `line` is where it begins in its file, from 1; None where the file is none of lines.

    A record is one line of its file, whatever lines its text has.
    """

    split: Split
    text: str
    source: str
    position: int
    line: int | None
    is_record: bool
    path: Path

    def line_of(self, line: int) -> int | None:
        """The line of the file that line `line` of the text is on, both from 1."""
        return self.line if self.line is None or self.is_record else self.line + line - 1


@dataclass(frozen=True)
class SplitSize:
    """`bytes` is what the rows take in memory, as datasets counts."""

    rows: int
    bytes: int


@dataclass(frozen=True)
class Dataset:
    """Parquet files by name, and the size of each split that has rows."""

    files: dict[str, Path]
    splits: dict[Split, SplitSize]


def read_rows(
    files: Iterable[Path], root: Path, val_fraction: float, on_bad_file: OnBadFile, warn: Callable[[str], None]
) -> Iterator[Row]:
    """The documents of `files`, which lie in the workspace `root`, each in the split that training has it in.

    In the order of their sources. Raises InputError as `read_documents` does.
    """
    for source, path in sorted((_source(path, root), path) for path in files):
        is_text = kind_of(path) == "text"
        line = 1
        for number, document in enumerate(read_documents([path], on_bad_file, warn), 1):
            position = number if is_text else int(document.source.rpartition(":")[2])
            split: Split = "validation" if is_validation(document.text, val_fraction) else "train"
            where = line if is_text else position if kind_of(path) == "jsonl" else None
            yield Row(split, document.text, source, position, where, not is_text, path)
            line += document.text.count("\n")


def write_dataset(rows: Callable[[], Iterable[Row]], folder: Path, shard_bytes: int = SHARD_BYTES) -> Dataset:
    """Write what `rows` gives, called twice, into `folder`. The memory that it takes does not grow with their text."""
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
    """One file, and its rows until they make a row group. What was written is added to `count`: rows and bytes."""

    def __init__(self, path: Path, count: list[int]) -> None:
        # a cut by content, and not by size: of a shard that has changed in one place, Xet sends that place alone
        self._file = pyarrow.parquet.ParquetWriter(
            path, _SCHEMA, compression="zstd", write_page_index=True, use_content_defined_chunking=True
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
        for name in _SCHEMA.names:
            self._columns[name].append(getattr(row, name))
        self._bytes += len(row.text)
        if self._bytes >= _GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if not self._columns:
            return
        table = pyarrow.table(self._columns, _SCHEMA)
        self._file.write_table(table, row_group_size=len(table))
        self._count[0] += len(table)
        self._count[1] += table.nbytes
        self._columns.clear()
        self._bytes = 0


def _shards(keys: Sequence[tuple[int, int]], limit: int, low: int = 0, depth: int = 0) -> Iterator[tuple[int, str]]:
    """The lowest key of each shard, and the bits that its keys begin with. `keys` are sorted, each with its size."""
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
    """The path in the workspace. Where a file from outside of it lies is nobody's business: it is told by its content."""
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
