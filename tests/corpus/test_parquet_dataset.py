"""Documents as Parquet: deterministic files, and a change affects only its own shard."""

import hashlib
import json
import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import pyarrow.parquet

from echoself_action.corpus.parquet_dataset import Dataset, Row, read_rows, write_dataset
from echoself_action.corpus.split import is_validation

SHARD = 20_000


def written(root: Path, files: Iterable[Path], name: str = "out", shard_bytes: int = SHARD) -> Dataset:
    folder = root.parent / name
    folder.mkdir()
    return write_dataset(partial(rows, root, list(files)), folder, shard_bytes)


def rows(root: Path, files: Iterable[Path]) -> list[Row]:
    return list(read_rows(files, root, 0.1, "fail", print))


def digests(dataset: Dataset) -> dict[str, str]:
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in dataset.files.items()}


def corpus(root: Path, count: int = 60) -> list[Path]:
    root.mkdir(parents=True)
    files = [root / f"{number}.md" for number in range(count)]
    for number, path in enumerate(files):
        path.write_text(f"Document {number}.\n\n" + "\n\n".join(f"{number} times {n} is {number * n}." for n in range(99)))
    return files


def test_the_same_documents_are_the_same_bytes_in_another_folder_and_order(tmp_path: Path) -> None:
    here, there = corpus(tmp_path / "a" / "checkout"), corpus(tmp_path / "b" / "elsewhere")
    first = written(here[0].parent, here)
    os.utime(there[0], (0, 0))
    second = written(there[0].parent, reversed(there))
    assert digests(first) == digests(second)
    assert len(first.files) > 5


def test_shards_respect_the_size_limit_and_contain_every_row_once(tmp_path: Path) -> None:
    files = corpus(tmp_path / "text")
    dataset = written(tmp_path / "text", files)
    tables = {name: pyarrow.parquet.read_table(path) for name, path in dataset.files.items()}
    for table in tables.values():
        assert sum(len(text.encode()) for text in table["text"].to_pylist()) <= SHARD
    for split in ("train", "validation"):
        found = [tuple(row.values()) for name, table in tables.items() if name.startswith(split) for row in table.to_pylist()]
        expected = [(one.text, one.source, one.position) for one in rows(tmp_path / "text", files) if one.split == split]
        assert sorted(found) == sorted(expected)
        assert dataset.splits[split].rows == len(expected)  # type: ignore[index]


def test_a_new_file_changes_or_splits_one_shard_per_split(tmp_path: Path) -> None:
    files = corpus(tmp_path / "text")
    before = digests(written(tmp_path / "text", files))
    for number in range(8):
        new = tmp_path / "text" / f"new-{number}.md"
        new.write_text(f"A new document, number {number}.\n")
        files.append(new)
        after = digests(written(tmp_path / "text", files, f"after-{number}"))
        differ = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        assert 1 <= len(differ) <= 3
        before = after


def test_one_large_file_is_split_into_shards_by_text(tmp_path: Path) -> None:
    path = tmp_path / "text" / "chat.jsonl"
    path.parent.mkdir()
    lines = [json.dumps({"text": f"message {number} " * 20}) for number in range(500)]
    path.write_text("\n".join(lines) + "\n")
    first = written(tmp_path / "text", [path])
    assert len(first.files) > 4
    with path.open("a") as file:
        file.write(json.dumps({"text": "one more"}) + "\n")
    second = digests(written(tmp_path / "text", [path], "second"))
    assert sum(digests(first).get(name) != digest for name, digest in second.items()) == 1


def test_equal_documents_are_in_one_shard(tmp_path: Path) -> None:
    path = tmp_path / "text" / "same.jsonl"
    path.parent.mkdir()
    path.write_text((json.dumps({"text": "again and again"}) + "\n") * 100)
    dataset = written(tmp_path / "text", [path], shard_bytes=100)
    assert [size.rows for size in dataset.splits.values()] == [100]


def test_line_numbers_of_a_passage_refer_to_its_file(tmp_path: Path) -> None:
    path = corpus(tmp_path / "text", 1)[0]
    path.write_text("".join(f"Line {number} of a long file, and then some more of it.\n\n" for number in range(1, 2000, 2)))
    found = rows(tmp_path / "text", [path])
    assert len(found) > 3
    for row in found:
        assert row.text.startswith(f"Line {row.line} ")
        assert row.line_of(3) == (row.line or 0) + 2


def test_a_file_name_that_is_not_utf8_and_an_empty_split(tmp_path: Path) -> None:
    folder = tmp_path / "text"
    folder.mkdir()
    path = folder / os.fsdecode(b"caf\xe9.txt")
    path.write_text("short\n")
    dataset = written(folder, [path])
    (only,) = dataset.files
    assert only == ("validation.parquet" if is_validation("short\n", 0.1) else "train.parquet")
    assert pyarrow.parquet.read_table(dataset.files[only])["source"].to_pylist() == ["caf�.txt"]
