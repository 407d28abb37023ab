import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from echoself_action.corpus.findings import REFUSED_BY_FAIL, SKIPPED_RECORDS, Finding
from echoself_action.corpus.readers import Document, read_documents
from echoself_action.errors import InputError

Write = Callable[[str, bytes | str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, content: bytes | str) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def read(*files: Path) -> list[Document]:
    return list(read_documents(files, "fail", pytest.fail))


def test_a_text_file_is_read_whole_in_passages_that_continue(shakespeare_file: Path, shakespeare: str) -> None:
    documents = read(shakespeare_file)
    assert "".join(document.text for document in documents) == shakespeare
    assert [document.continues for document in documents] == [False] + [True] * (len(documents) - 1)
    assert {document.source for document in documents} == {str(shakespeare_file)}


def test_chats_are_one_document_each(chat_files: list[Path]) -> None:
    for path in chat_files:
        documents = read(path)
        assert len(documents) == path.read_text(encoding="utf-8").count("\n{") + 1
        assert all(document.text.startswith("System: You are Deep Tree Echo") for document in documents)
        assert all("\n\nAssistant: " in document.text and not document.continues for document in documents)
    assert read(chat_files[0])[1].source == f"{chat_files[0]}:2"


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.py", "Makefile", "a.TXT"])
def test_any_other_suffix_is_text_with_bom_and_crlf_tolerated(write: Write, name: str) -> None:
    path = write(name, b"\xef\xbb\xbffirst\r\nsecond \xc3\xa9\r\n")
    assert read(path) == [Document("first\nsecond é\n", str(path))]


def test_characters_and_line_ends_over_a_block_boundary_stay_whole(write: Write) -> None:
    for shift in range(4):
        text = "x" * shift + "a🙂\r\n" * 300_000
        documents = read(write("a.txt", text))
        assert "".join(document.text for document in documents) == text.replace("\r\n", "\n")


def test_json_lines_json_and_parquet_hold_the_same_documents(write: Write, tmp_path: Path) -> None:
    records = [{"text": f"Document {i} é🙂"} for i in range(1000)]
    lines = "\n".join(json.dumps(record) for record in records)
    files = [
        write("a.jsonl", "\ufeff" + lines + "\n\n"),
        write("a.ndjson", lines.replace("\n", "\r\n")),
        write("a.json", "\ufeff " + json.dumps(records, indent=1, ensure_ascii=False)),
        tmp_path / "a.parquet",
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), files[-1], row_group_size=300)
    for path in files:
        assert read(path) == [Document(record["text"], f"{path}:{i}") for i, record in enumerate(records, 1)]


def test_a_json_object_is_one_document(write: Write) -> None:
    path = write("a.json", '{"messages": [{"role": "user", "content": "Hi"}]}')
    assert read(path) == [Document("User: Hi", f"{path}:1")]


def test_parquet_holds_chats_and_instructions(tmp_path: Path) -> None:
    path = tmp_path / "chat.parquet"
    chats = [{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(chats), path)
    assert read(path)[0].text == "User: Hi\n\nAssistant: Hello."
    rows = [{"instruction": "Add.", "input": "1 and 2", "output": "3"}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    assert read(path)[0].text == "User: Add.\n\n1 and 2\n\nAssistant: 3"


BROKEN: list[tuple[str, bytes, str]] = [
    ("a.jsonl", b"\n", " is empty"),
    ("a.json", b"[]", " is empty"),
    ("a.txt", b"one\ntwo\nth\xe9ee\n", ", line 3: byte 0xe9 is not UTF-8"),
    ("a.txt", b"one\ncut short \xe2\x82", ", line 2: byte 0xe2 is not UTF-8"),
    ("a.txt", b"one\n\0two", ", line 2: NUL byte"),
    ("a.txt", "é\n".encode("utf-16-le"), ", line 1: byte 0xe9|, line 1: NUL byte"),
    ("a.txt", gzip.compress(b"text", mtime=0), " is a gzip file, not text"),
    ("a.jsonl", b'\n[{"text": "x"}]', ", line 2: a JSON array instead of one record per line; rename the file to .json"),
    ("a.jsonl", b'{"text": "x"}\n{"text": \n', r", line 2 is invalid JSON \(Expecting value"),
    ("a.jsonl", b'{"text": "x"}\n{"text": "\xe9"}\n', r", line 2 is not UTF-8 \(byte 0xe9\)"),
    ("a.jsonl", b'{"text": "x"}\n\n{"title": "x"}\n', ", line 3 has neither `text` nor `messages`"),
    ("a.jsonl", b"[" * 100_000, ", line 1: a JSON array"),
    ("a.jsonl", b'{"a":' * 100_000, ", line 1 is JSON nested too deeply"),
    ("a.json", b'[{"text": "x"}, {"text": "y"', r", record 2 is invalid JSON"),
    ("a.json", b'[{"text": "x"}] trailing', r", record 2 is invalid JSON"),
    ("a.json", b'[{"text": "x"}, {"text": "\xe9"}]', r", record 2 is not UTF-8 \(byte 0xe9\)"),
    ("a.json", b'[{"text": "x"}, {"title": "y"}]', ", record 2 has neither"),
    ("a.json", b'{"text": "x"}\n{"text": "y"}\n', ", line 2: more than one record; rename the file to .jsonl"),
    ("a.json", b'{"text": "x"', ", line 1 is invalid JSON"),
    ("a.json", b'{"name": "package"}', ", record 1 has neither"),
    ("a.parquet", b"PAR1 not really", " is not a readable Parquet file"),
    ("a.parquet", b"", " is not a readable Parquet file"),
]


@pytest.mark.parametrize(("name", "content", "problem"), BROKEN)
def test_an_invalid_file_is_refused(write: Write, name: str, content: bytes, problem: str) -> None:
    path = write(name, content)
    with pytest.raises(InputError, match=f"a\\{path.suffix}({problem})") as caught:
        read(path)
    assert caught.value.hint


@pytest.mark.parametrize(("name", "content", "problem"), BROKEN)
def test_on_bad_file_skip_warns_about_an_invalid_file(write: Write, name: str, content: bytes, problem: str) -> None:
    findings: list[Finding] = []
    good, path = write("good.txt", "good"), write(name, content)
    documents = list(read_documents([path, good], "skip", findings.append))
    assert documents[-1] == Document("good", str(good))
    assert [finding.file for finding in findings] == [str(path)]
    assert findings[0].kind in REFUSED_BY_FAIL
    assert findings[0].is_loss


def test_parquet_without_text_is_refused_with_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"title": ["x"], "n": [1]}), path)
    with pytest.raises(InputError, match=r"has no `text` or `messages` column \(it has n, title\)"):
        read(path)
    pyarrow.parquet.write_table(pyarrow.table({"text": ["x", None]}), path)
    with pytest.raises(InputError, match="record 2 has null as `text`"):
        read(path)


def test_on_bad_file_skip_reads_the_other_records(write: Write) -> None:
    path = write("a.jsonl", '{"text": "one"}\nbroken\n{"text": ""}\n{"text": "four"}\n')
    findings: list[Finding] = []
    documents = list(read_documents([path], "skip", findings.append))
    assert [document.text for document in documents] == ["one", "four"]
    example = "line 2 is invalid JSON (Expecting value, column 1)"
    assert findings == [Finding(SKIPPED_RECORDS, str(path), 2, example)]
    assert str(findings[0]) == f"skipped records (2): {path}: {example}"
