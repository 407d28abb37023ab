"""Files that people select as text: read as what they are, or refused by it, never learnt raw; and how they are selected."""

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings, strategies

from echoself_action.config.mode_inputs import TrainInputs
from echoself_action.corpus.findings import Finding
from echoself_action.corpus.globs import find_files
from echoself_action.corpus.json_array import array_elements
from echoself_action.corpus.make_tokenizer import make_tokenizer
from echoself_action.corpus.nanogpt_bin import nanogpt_tokens
from echoself_action.corpus.parquet_dataset import read_rows, restore, write_dataset
from echoself_action.corpus.readers import read_documents
from echoself_action.corpus.tokens import Tokens
from echoself_action.errors import InputError
from echoself_action.starting.tokenize_corpus import corpus_tokens

from ..conftest import SMALL, Cli

OID = "ab12" * 16
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{OID}\nsize 90405214\n".encode()
TEXT = "A first line, with é and 日本 🙂.\n\n  indented\ta tab\nand a last line\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty workspace, as the current folder."""
    folder = tmp_path / "workspace"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def write(name: str, content: bytes | str) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(*paths: Path | str, on_bad_file: Any = "fail") -> tuple[list[str], list[Finding]]:
    """The decoded documents, and what was found in them."""
    findings: list[Finding] = []
    documents = read_documents([Path(path) for path in paths], on_bad_file, findings.append)
    return [document.text for document in documents], findings


def refused(path: Path | str) -> InputError:
    with pytest.raises(InputError) as caught:
        read(path)
    assert "was not read" in caught.value.message
    assert caught.value.hint
    return caught.value


# The reported cases


@pytest.mark.parametrize("suffix", [".md", ".txt", ".jsonl", ".json", ".parquet", ".csv", ".ipynb", "", ".gz"])
def test_a_git_lfs_pointer_is_refused(cases: Path, folder: Path, suffix: str) -> None:
    path = write(f"odd{suffix}", (cases / "corpus/f06_lfs_md/odd.md").read_bytes())
    error = refused(path)
    assert "is a Git LFS pointer, not the file itself" in error.message
    assert "lfs: true" in str(error.hint)
    assert read(path, on_bad_file="skip")[0] == []


def test_a_pointer_in_place_of_a_token_file_is_refused(cases: Path, folder: Path) -> None:
    for name in ("train.bin", "val.bin"):
        write(f"data/{name}", (cases / "corpus/f06_lfs_md/odd.md").read_bytes())
    with pytest.raises(InputError, match=r"train\.bin is a Git LFS pointer") as caught:
        corpus_tokens(TrainInputs(mode="train", data=("data/*.bin",)), None)
    assert "lfs: true" in str(caught.value.hint)


def test_a_pointer_ends_a_run_with_exit_code_2(cases: Path, echoself: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copyfile(cases / "corpus/f06_lfs_md/odd.md", "docs/odd.md")
    echoself(f"train --data docs/*.md {SMALL}", code=2)
    assert "lfs: true" in "".join(capsys.readouterr())


def test_token_files_of_uint32_are_recognised(cases: Path, folder: Path) -> None:
    shutil.copytree(cases / "corpus/g06_bin_u32", "data")
    tokens = corpus_tokens(TrainInputs(mode="train", data=("data/*.bin",)), None)
    for ids, name in ((tokens.train, "train.bin"), (tokens.val, "val.bin")):
        assert ids.tolist() == np.fromfile(f"data/{name}", "<u4").tolist()
    assert [finding.kind for finding in tokens.findings] == ["token ids of another width"]
    assert "uint32" in tokens.findings[0].example


def test_the_vocabulary_beside_token_files_is_used(cases: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = cases / "corpus/g08_shakespeare_char/data"
    shutil.copytree(source, "data")
    names = pickle.loads((source / "shakespeare_char/meta.pkl").read_bytes())["itos"]  # noqa: S301  # our own file
    for pattern in ("data/shakespeare_char/*.bin", "data/shakespeare_char/*"):
        tokens = corpus_tokens(TrainInputs(mode="train", data=(pattern,)), None)
        assert tokens.tokenizer.name == "characters"
        for ids, name in ((tokens.train, "train.bin"), (tokens.val, "val.bin")):
            expected = np.fromfile(source / f"shakespeare_char/{name}", "<u2").tolist()
            assert ids.tolist() == expected
            assert tokens.tokenizer.decode(ids) == "".join(names[i] for i in expected)
    assert "meta.pkl, beside the token files" in capsys.readouterr().out


def test_an_empty_file_is_skipped_with_a_count(cases: Path, folder: Path) -> None:
    shutil.copytree(cases / "corpus/f07_empty_init", "case")
    documents, findings = read("case/odd.py", "case/pkg/__init__.py")
    assert documents == [Path("case/odd.py").read_text()]
    assert [(one.kind, one.file, one.count, one.is_loss) for one in findings] == [
        ("files without text", "case/pkg/__init__.py", 1, False)
    ]


def test_a_compressed_file_is_read_as_what_it_is(cases: Path) -> None:
    case = cases / "corpus/f04_gz"
    assert read(case / "odd.txt.gz")[0] == [gzip.decompress((case / "odd.txt.gz").read_bytes()).decode()]
    assert read(case / "odd2.jsonl.gz")[0] == ["z"]


@pytest.mark.parametrize(
    ("case", "why"), [("b24b_surrogate_json", "unpaired surrogate"), ("j06_latin1_in_array", "is not UTF-8")]
)
def test_a_json_array_is_read_as_json_lines_are(cases: Path, folder: Path, case: str, why: str) -> None:
    array = (cases / f"corpus/{case}/odd.json").read_bytes()
    lines = b"\n".join(array.strip()[1:-1].replace(b"},{", b"}\n{").splitlines())
    found = []
    for path in (write("odd.json", array), write("odd.jsonl", lines)):
        message = refused(path).message
        assert why in message
        texts, findings = read(path, on_bad_file="skip")
        found.append((texts, [(one.kind, one.count) for one in findings], message.split(" ", 3)[3].replace(path.suffix, "")))
    assert found[0] == found[1]
    assert found[0][0] == [["emoji pair 😀 ok"], ["ok"]][case.startswith("j06")]
    assert found[0][1] == [("skipped records", 1)]


def test_text_in_any_script_is_read_exactly(cases: Path) -> None:
    path = cases / "corpus/c_unicode/odd.txt"
    assert read(path)[0] == [path.read_bytes().decode()]


# Cases of the same kinds


@pytest.mark.parametrize("on_bad_file", ["fail", "skip"])
def test_a_file_name_that_is_not_utf8_is_written_out(echoself: Cli, on_bad_file: str, tmp_path: Path) -> None:
    """In the log, in the job summary and in the annotations."""
    Path(os.fsdecode(b"docs/caf\xe9.md")).write_bytes(b"caf\xe9")
    code = 2 if on_bad_file == "fail" else 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GITHUB_ACTIONS", "true")
        echoself(f"train --data docs/*.md --on-bad-file {on_bad_file} {SMALL}", code=code)
    assert r"caf\udce9.md" in (tmp_path / "summary.md").read_text()


@pytest.mark.parametrize(
    "pointer",
    [
        POINTER.replace(b"\n", b"\r\n"),
        POINTER.rstrip(),
        POINTER.replace(b"git-lfs.github.com", b"hawser.github.com"),
        POINTER.replace(b"oid", b"ext-0-foo sha256:" + OID.encode() + b"\noid"),
    ],
    ids=["crlf", "without a last line end", "hawser", "extension"],
)
def test_other_forms_of_a_pointer_are_refused(folder: Path, pointer: bytes) -> None:
    assert "lfs: true" in str(refused(write("odd.md", pointer)).hint)


@pytest.mark.parametrize("name", ["tok/tokenizer.json", "tok/meta.pkl"])
def test_a_pointer_in_place_of_a_tokenizer_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"is a Git LFS pointer, not the file itself: check it out with `lfs: true`"):
        make_tokenizer(str(write(name, POINTER)), lambda: iter(()))


def test_a_git_annex_pointer_is_refused(folder: Path) -> None:
    error = refused(write("book.txt", "/annex/objects/SHA256E-s1000--1234.txt\n"))
    assert "git annex get" in str(error.hint)


def test_a_text_about_pointers_is_text(folder: Path) -> None:
    text = POINTER.decode() + "\nis what a pointer looks like.\n"
    assert read(write("lfs.md", text))[0] == [text]


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda content: pyarrow.Codec("zstd").compress(content, asbytes=True),
}


@pytest.mark.parametrize("suffix", COMPRESSORS)
@pytest.mark.parametrize("name", ["a.md", "a.jsonl", "a.json", "a.csv", "a.ipynb"])
def test_any_format_may_be_compressed(folder: Path, name: str, suffix: str) -> None:
    records = [{"text": f"Document {i} é🙂"} for i in range(100)]
    content = {
        "a.md": TEXT * 100,
        "a.jsonl": "\n".join(map(json.dumps, records)),
        "a.json": json.dumps(records),
        "a.csv": "text\n" + "\n".join(record["text"] for record in records),
        "a.ipynb": json.dumps(notebook({"cell_type": "markdown", "source": TEXT})),
    }[name].encode()
    plain, packed = write(name, content), write(name + suffix, COMPRESSORS[suffix](content))
    assert read(packed) == read(plain)
    # two parts, one after the other, as pigz and split archives have
    both = write("both" + suffix, COMPRESSORS[suffix](TEXT.encode()) * 2)
    assert "".join(read(both)[0]) == TEXT * 2


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_a_damaged_compressed_file_is_refused(folder: Path, suffix: str) -> None:
    packed = COMPRESSORS[suffix](os.urandom(3000).hex().encode())
    damaged = packed[:100] + b"\xff" * 50 + packed[150:]
    for content in (packed[:-6], b"no such file", *([] if suffix == ".zst" else [damaged])):  # its checksums are optional
        error = refused(write("a.txt" + suffix, content))
        assert "is not a complete" in error.message
        assert "again" in str(error.hint)


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_a_decompression_bomb_is_refused(folder: Path, suffix: str) -> None:
    parts = 48 if suffix == ".bz2" else 1  # which takes ten seconds to compress it in one
    packed = COMPRESSORS[suffix](b"lines of nothing but this\n" * ((3 << 20) // parts)) * parts
    error = refused(write("a.txt" + suffix, packed))
    assert "expands to more than 67,108,864 bytes" in error.message


def test_a_compressed_archive_is_refused_by_what_is_in_it(folder: Path) -> None:
    shutil.make_archive("a", "gztar", base_dir=".", root_dir=write("in/a.txt", TEXT).parent)
    assert "is a tar archive, not text" in refused("a.tar.gz").message


def zipped(name: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr(name, TEXT)
    return content.getvalue()


NO_TEXT: list[tuple[str, bytes, str]] = [
    ("paper.pdf", b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog >>\nendobj\n", "a PDF document"),
    ("paper.txt", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "a PDF document"),
    ("paper.docx", zipped("word/document.xml"), "a ZIP archive, or a document stored in one, such as DOCX"),
    ("paper.md", zipped("word/document.xml"), "a ZIP archive, or a document stored in one, such as DOCX"),
    ("paper.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500), "an old Microsoft Office document"),
    ("paper.rtf", rb"{\rtf1\ansi Hello}", "an RTF document"),
    ("logo.png", b"\x89PNG\r\n\x1a\n" + bytes(20), "a PNG image"),
    ("photo.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF", "a JPEG image"),
    ("logo.gif", b"GIF89a\x01\x01", "a GIF image"),
    ("song.mp3", b"ID3\x03\0\0\0\0", "an MP3 file"),
    ("a.out", b"\x7fELF\x02\x01\x01\0", "a program"),
    ("store.db", b"SQLite format 3\0", "an SQLite database"),
    ("table.txt", b"PAR1\x15\x04", "a Parquet file"),
    ("table.feather", b"ARROW1\0\0", "an Arrow file"),
    ("a.txt", lzma.compress(b"text"), "an xz file"),
    ("weights.npy", b"\x93NUMPY\x01\0", "a NumPy array"),
    ("meta.pkl", pickle.dumps({"a": 1}), "a pickle"),
    ("model.pt", zipped("archive/data.pkl"), "a ZIP archive, or a document stored in one, such as DOCX"),
    ("scan.pdf", b"no such document\n", "a PDF document"),
]


@pytest.mark.parametrize(("name", "content", "what"), NO_TEXT, ids=[name for name, *_ in NO_TEXT])
def test_a_file_that_is_not_text_is_refused_by_what_it_is(folder: Path, name: str, content: bytes, what: str) -> None:
    path = write(name, content)
    assert f"{name} is {what}, not text" in refused(path).message
    good = write("good.md", TEXT)
    documents, findings = read(path, good, on_bad_file="skip")
    assert documents == [TEXT]
    assert [(one.kind, one.count) for one in findings] == [("skipped files", 1)]
    assert what in findings[0].example


def test_markup_and_code_are_text(folder: Path) -> None:
    for name in ("a.html", "a.xml", "a.svg", "a.tex", "a.yaml", "Makefile", "ID3.md", "RIFF.txt", "corpus.pt", "plain.doc"):
        text = f"{Path(name).stem} <p class='x'>one &amp; two</p>\n"
        assert read(write(name, text))[0] == [text]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_byte_order_mark_states_the_encoding(folder: Path, encoding: str, end: str) -> None:
    text = TEXT * 20_000  # more than a block
    content = text.replace("\n", end)
    assert "".join(read(write("a.txt", content.encode(encoding)))[0]) == text
    assert "".join(read(write("b.txt", content.encode("utf-16-be", "strict").join([b"\xfe\xff", b""])))[0]) == text
    assert read(write("a.jsonl", f'{{"text": "é"}}{end}{{"text": "🙂"}}{end}'.encode(encoding)))[0] == ["é", "🙂"]
    assert read(write("a.json", '[{"text": "é"}]'.encode(encoding)))[0] == ["é"]
    assert read(write("a.csv", f"id;text{end}1;é{end}".encode(encoding)))[0] == ["é"]


def test_utf16_that_is_cut_short_is_refused(folder: Path) -> None:
    assert "is not valid UTF-16" in refused(write("a.txt", TEXT.encode("utf-16")[:-1])).message
    assert "NUL byte" in refused(write("b.txt", "abc\n".encode("utf-16-le"))).message


def test_other_encodings_are_refused_with_the_line(folder: Path) -> None:
    assert "line 2: byte 0xe9 is not UTF-8" in refused(write("a.txt", "one\ncafé".encode("latin-1"))).message
    assert "line 1: byte 0x93 is not UTF-8" in refused(write("a.txt", "“one”".encode("cp1252"))).message


def test_a_very_long_line_is_read_whole(folder: Path) -> None:
    text = "word and 語 " * 300_000
    assert "".join(read(write("a.txt", text))[0]) == text
    assert read(write("a.jsonl", json.dumps({"text": text})))[0] == [text]
    assert read(write("a.json", json.dumps([{"text": text}, {"text": "next"}])))[0] == [text, "next"]
    assert read(write("a.csv", f'text\n"{text}"\n'))[0] == [text]


def notebook(*cells: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": list(cells), **more}


CODE = {"cell_type": "code", "source": ["import os\n", "print(os.name)"], "execution_count": 1}
OUTPUTS = [
    {"output_type": "stream", "text": ["posix\n"]},
    {"output_type": "display_data", "data": {"image/png": "iVBORw0KGgo="}},
]


def test_a_notebook_is_the_source_of_its_cells(folder: Path) -> None:
    cells = [
        {"cell_type": "markdown", "source": "# Title\n\né 🙂", "attachments": {"a.png": {"image/png": "iVBOR"}}},
        CODE | {"outputs": OUTPUTS},
        {"cell_type": "code", "source": [], "outputs": []},
        {"cell_type": "raw", "source": "raw\r\ntext"},
    ]
    documents, findings = read(write("a.ipynb", json.dumps(notebook(*cells), indent=1)))
    assert documents == ["# Title\n\né 🙂\n\nimport os\nprint(os.name)\n\nraw\ntext"]
    assert [(one.kind, one.count, one.is_loss) for one in findings] == [("notebook outputs left out", 3, False)]


def test_a_notebook_of_version_3_is_read(folder: Path) -> None:
    cells = [
        {"cell_type": "heading", "level": 2, "source": "Title"},
        {"cell_type": "code", "input": "1 + 1", "outputs": [{"text": "2"}]},
    ]
    documents, _ = read(write("a.ipynb", json.dumps({"nbformat": 3, "worksheets": [{"cells": cells}]})))
    assert documents == ["## Title\n\n1 + 1"]


def test_a_long_notebook_is_cut_into_passages(folder: Path) -> None:
    cells = [{"cell_type": "markdown", "source": f"Paragraph {i}. " * 40} for i in range(100)]
    documents = list(read_documents([write("a.ipynb", json.dumps(notebook(*cells)))], "fail", pytest.fail))
    assert "".join(document.text for document in documents) == "\n\n".join(cell["source"] for cell in cells)
    assert [document.continues for document in documents] == [False] + [True] * (len(documents) - 1)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b'{"nbformat": 4', "line 1 is invalid JSON"),
        (b'{"text": "x"}', "is not a notebook"),
        (b"[1]", "is not a notebook"),
        (b'{"cells": [{"source": 5}]}', "is not a notebook"),
        (b'{"cells": [{"source": "half \\ud83d"}]}', "unpaired surrogate"),
        (b'{"cells": [{"source": "caf\xe9"}]}', "is not UTF-8"),
        (b'{"worksheets": [{"cells": 5}]}', "is not a notebook"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_not_a_notebook_is_refused(folder: Path, content: bytes, why: str) -> None:
    assert why in refused(write("a.ipynb", content)).message


def test_a_notebook_without_cells_is_counted_as_empty(folder: Path) -> None:
    documents, findings = read(write("a.ipynb", json.dumps(notebook())))
    assert documents == []
    assert [one.kind for one in findings] == ["files without text"]


TABLES: list[tuple[str, str, list[str]]] = [
    ("a.csv", "text\none\ntwo\n", ["one", "two"]),
    ("a.csv", 'id,text\r\n1,"one, ""quoted""\r\nin two lines"\r\n2,two\r\n', ['one, "quoted"\nin two lines', "two"]),
    ("a.csv", "id;text\n1;one, two\n", ["one, two"]),
    ("a.csv", "text|id\none|1", ["one"]),
    ("a.tsv", 'text\tid\nsay "hi", now\t1\n\none more\t2\n', ['say "hi", now', "one more"]),
    ("a.tsv.csv", "id,text\n1,one\n", ["one"]),
    ("a.TSV", "id\ttext\n1\ta, b; c\n", ["a, b; c"]),
    (
        "a.csv",
        "instruction,input,output\nAdd.,1 and 2,3\nGo.,,Gone.\n",
        ["User: Add.\n\n1 and 2\n\nAssistant: 3", "User: Go.\n\nAssistant: Gone."],
    ),
]


@pytest.mark.parametrize(("name", "content", "expected"), TABLES)
def test_a_table_is_read_by_its_columns(folder: Path, name: str, content: str, expected: list[str]) -> None:
    assert read(write(name, content))[0] == expected


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.csv", b"id,title\n1,x\n", "id, title"),
        ("a.csv", b"Call me Ishmael. Some years ago\n", "Call me Ishmael"),
        ("a.csv", b"text,id\none,1\ntwo\n", "row 2 has 1 cells, but the table has 2 columns"),
        ("a.csv", b"text,id\none, more,1\n", "row 1 has 3 cells"),
        ("a.csv", b'text\n"one\ntwo', "is not valid CSV"),
        ("a.csv", b"text,text\none,two\n", "several columns `text`"),
        ("a.csv", b"text\ncaf\xe9\n", "byte 0xe9 is not UTF-8"),
        ("a.csv", b"text\none\0two\n", "NUL byte"),
        ("a.csv", b"", " is empty"),
        ("a.tsv", b"text,id\none,1\n", "text,id"),
    ],
)
def test_a_table_that_can_not_be_read_is_refused(folder: Path, name: str, content: bytes, why: str) -> None:
    assert why in refused(write(name, content)).message


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonlines", ".ndjson", ".JSONL"])
def test_every_name_of_json_lines_is_read_so(folder: Path, suffix: str) -> None:
    assert read(write(f"a{suffix}", '{"text": "one"}\n{"text": "two"}\n'))[0] == ["one", "two"]


VALUES: list[tuple[str, str | None]] = [
    ('{"text": "one", "score": NaN}', "one"),
    ('{"text": "one", "score": -Infinity, "n": 1e400}', "one"),
    ('{"text": "pair \\ud83d\\ude00"}', "pair 😀"),
    ('{"text": "half \\ud83d"}', None),
    ('{"text": "half \\ude00\\ud83d"}', None),
    ('{"text": "brackets ]}[{ and \\" and \\\\"}', 'brackets ]}[{ and " and \\'),
    ('{"text": NaN}', None),
    ('{"text": "a\\u0000b"}', "a\0b"),
    ('{"text": "one"} {"text": "two"}', None),
    ('{"text": "tab\there"}', None),
    ("[1, [2], {}]", None),
    ('"text"', None),
    ('{"text": "deep", "x": ' + "[" * 100_000 + "]" * 100_000 + "}", None),
]


@pytest.mark.parametrize(("value", "text"), VALUES, ids=range(len(VALUES)))
def test_a_record_is_the_same_in_json_and_in_json_lines(folder: Path, value: str, text: str | None) -> None:
    good = '{"text": "good"}'
    expected = ["good", *([] if text is None else [text]), "good"]
    results = []
    for path in (write("a.json", f"[{good},\n {value} , {good}]\n"), write("a.jsonl", f"{good}\n{value}\n{good}\n")):
        texts, findings = read(path, on_bad_file="skip")
        assert texts == expected
        results.append([(one.kind, one.count) for one in findings if one.kind == "skipped records"])
    assert results[0] == results[1] == ([] if text else [("skipped records", 1)])


@pytest.mark.parametrize(
    ("content", "record"),
    [
        (b'[{"text": "one"}', 1),
        (b'[{"text": "one"}, {"text": "tw', 2),
        (b'[{"text": "one"}] x', 2),
        (b'[{"text": "one"}, ]', 2),
        (b'[{"text": "one"},, {"text": "two"}]', 2),
        (b'[{"text": "one"}}, {"text": "two"}]', 1),
        (b"[", 1),
    ],
)
def test_a_broken_array_is_refused_with_the_record(folder: Path, content: bytes, record: int) -> None:
    assert f"record {record} is invalid JSON" in refused(write("a.json", content)).message


def test_a_row_of_parquet_that_is_not_utf8_is_skipped_alone(folder: Path) -> None:
    values = pyarrow.array([b"one", b"caf\xe9", b"three"], pyarrow.binary()).view(pyarrow.string())
    pyarrow.parquet.write_table(pyarrow.table({"text": values}), "a.parquet")
    assert "record 2 is not UTF-8 (byte 0xe9)" in refused("a.parquet").message
    documents, findings = read("a.parquet", on_bad_file="skip")
    assert documents == ["one", "three"]
    assert [(one.kind, one.count) for one in findings] == [("skipped records", 1)]


def test_the_column_that_is_named_is_read_of_a_table(folder: Path) -> None:
    write("a.csv", "id,body,text\n" + "".join(f"{i},body {i},text {i}\n" for i in range(40)))
    inputs = TrainInputs(mode="train", data=("a.csv",), tokenizer="bytes", text_column="body", val_fraction=0.5)
    tokens = corpus_tokens(inputs, None)
    both = tokens.tokenizer.decode([*tokens.train, *tokens.val]).split("<|endoftext|>")
    assert sorted(filter(None, both)) == sorted(f"body {i}" for i in range(40))
    assert any("`id`" in finding.example and "`text`" in finding.example for finding in tokens.findings)


class _Pieces(io.RawIOBase):
    """A file that is read a few bytes at a time."""

    def __init__(self, content: bytes) -> None:
        self._content = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._content.read(min(size, 7) if size > 0 else size)


JSON = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() | strategies.floats() | strategies.text(),
    lambda inner: strategies.lists(inner, max_size=4) | strategies.dictionaries(strategies.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(strategies.lists(JSON, max_size=5), strategies.booleans(), strategies.sampled_from([None, 1]))
def test_the_elements_of_an_array_are_those_of_json(values: list[Any], ascii_only: bool, indent: int | None) -> None:
    content = json.dumps(values, ensure_ascii=ascii_only, indent=indent).encode(errors="surrogatepass")
    elements = array_elements(_Pieces(content))  # type: ignore[arg-type]  # of a file, only `read` is used
    # as text, because NaN is not equal to itself
    assert repr([json.loads(one.decode(errors="surrogatepass")) for one in elements]) == repr(values)


def ids_of(folder: str, train: Iterable[int], val: Iterable[int], dtype: str, header: bytes = b"") -> list[Path]:
    return [
        write(f"{folder}/{name}", header + np.array(list(ids), dtype).tobytes())
        for name, ids in (("train.bin", train), ("val.bin", val))
    ]


def tokens_of(files: list[Path], spec: str = "bytes") -> Tokens:
    return nanogpt_tokens(files, make_tokenizer(spec, lambda: iter(())))


@pytest.mark.parametrize("dtype", ["<u2", "<u4", "<i4", "<i8", "u1"])
def test_token_ids_of_any_width_are_read(folder: Path, dtype: str) -> None:
    train, val = [i * 7 % 250 for i in range(200)], [5, 0, 0, 0, 7, 250] * 5
    files = ids_of("data", train, val, dtype)
    if dtype == "u1":  # only a vocabulary that small is stored so
        meta = {"itos": dict(enumerate(map(chr, range(32, 32 + 251))))}
        write("data/meta.pkl", pickle.dumps(meta))
        tokens = tokens_of(files, "data/meta.pkl")
    else:
        tokens = tokens_of(files)
    assert tokens.train.tolist() == train
    assert tokens.val.tolist() == val


def test_the_same_bytes_with_other_ids_have_another_digest(folder: Path) -> None:
    wide = tokens_of(ids_of("wide", range(100), range(50), "<u4"))
    usual = tokens_of(ids_of("usual", range(100), range(50), "<u2"))
    assert wide.train.tolist() == usual.train.tolist()
    assert wide.digest != usual.digest


def test_the_token_files_of_llm_c_are_read_after_their_header(folder: Path) -> None:
    def header(count: int) -> bytes:
        return np.array([20240520, 1, count] + [0] * 253, "<i4").tobytes()

    files = ids_of("data", range(100), range(100), "<u2", header(100))
    assert tokens_of(files).train.tolist() == list(range(100))
    ids_of("data", range(99), range(100), "<u2", header(100))
    with pytest.raises(InputError, match=r"its header of llm\.c states 100 token ids"):
        tokens_of(files)


def test_ids_of_a_larger_vocabulary_are_refused_with_their_size(folder: Path) -> None:
    with pytest.raises(InputError, match=r"up to 128,000") as caught:
        tokens_of(ids_of("data", [128_000] * 50, [1] * 50, "<u4"))
    assert "tokenizer" in str(caught.value.hint)


def test_ids_of_characters_are_not_taken_for_those_of_gpt2_without_a_word(folder: Path, shared: Path) -> None:
    ids_of("data", [i % 65 for i in range(2000)], [i % 60 for i in range(200)], "<u2")
    tokens = corpus_tokens(TrainInputs(mode="train", data=("data/*.bin",)), None)
    assert tokens.tokenizer.name == "gpt2"
    assert [(one.kind, one.is_loss) for one in tokens.findings] == [("token ids of a small part of the vocabulary", True)]
    assert "no id is above 64, of the 50,257" in tokens.findings[0].example


def test_another_vocabulary_than_that_beside_the_token_files_is_refused(folder: Path) -> None:
    ids_of("data", [0, 1, 2] * 50, [0, 1] * 50, "<u2")
    write("data/meta.pkl", pickle.dumps({"itos": {0: "a", 1: "b", 2: "c"}}))
    with pytest.raises(InputError, match=r"meta\.pkl beside the token files is another vocabulary") as caught:
        corpus_tokens(TrainInputs(mode="train", data=("data/*.bin",), tokenizer="bytes"), None)
    assert "remove meta.pkl" in str(caught.value.hint)


class Runs:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch canary",)


def test_no_code_in_a_vocabulary_is_run(folder: Path) -> None:
    ids_of("data", [0, 1, 2] * 50, [0, 1] * 50, "<u2")
    write("data/meta.pkl", pickle.dumps({"itos": Runs()}))
    with pytest.raises(InputError, match="which a vocabulary never needs"):
        corpus_tokens(TrainInputs(mode="train", data=("data/*.bin",)), None)
    assert not Path("canary").exists()


def test_a_corpus_of_empty_files_is_refused(folder: Path) -> None:
    for i in range(3):
        write(f"{i}.md", " \n")
    for tokenizer in (None, "bytes"):
        with pytest.raises(InputError, match="has no text: all files are empty"):
            corpus_tokens(TrainInputs(mode="train", data=("*.md",), tokenizer=tokenizer), None)


def test_files_of_every_format_are_published_and_restored(folder: Path) -> None:
    cells = [{"cell_type": "markdown", "source": f"Paragraph {i}. " * 40} for i in range(100)]
    files = [
        write("a.ipynb", json.dumps(notebook(*cells))),
        write("b.md.gz", gzip.compress(TEXT.encode() * 500)),
        write("c.csv", "id,text\n1,one\n2,two\n"),
        write("d.jsonl.bz2", bz2.compress(b'{"text": "one"}\n\n{"text": "three"}\n')),
        write("e.txt", (TEXT * 3).encode("utf-16")),
    ]
    rows = list(read_rows(files, folder, 0.1, "fail", lambda _: None))
    for path, places in (("c.csv", [(1, None), (2, None)]), ("d.jsonl.bz2", [(1, 1), (3, 3)])):
        assert [(row.position, row.line) for row in rows if row.source == path] == places
    dataset = write_dataset(lambda: rows, write("out/.keep", "").parent)
    restored = restore(sorted(dataset.files.values()), write("back/.keep", "").parent)
    assert sorted(read(*restored)[0]) == sorted(read(*files)[0])


# How files are selected


def find(*patterns: str) -> tuple[list[str], list[Finding]]:
    findings: list[Finding] = []
    return [str(path) for path in find_files(patterns, Path(), findings.append)], findings


def test_a_link_to_a_file_of_the_corpus_is_not_read_twice(folder: Path) -> None:
    write("docs/a.md", "a")
    Path("docs/0.md").symlink_to("a.md")
    Path("b.md").symlink_to("docs/0.md")
    files, findings = find("**/*.md")
    assert files == ["docs/a.md"]
    assert [(one.kind, one.count, one.is_loss) for one in findings] == [
        ("links to files of the corpus, which are read once", 2, False)
    ]
    assert find("b.md") == (["b.md"], [])
    assert find("*.md", "docs/0.md")[0] == ["b.md"]


def test_a_link_out_of_the_workspace_is_refused(folder: Path) -> None:
    write("../secret.md", "secret")
    write("../secrets/key.md", "secret")
    write("a.md", "a")
    Path("out.md").symlink_to("../secret.md")
    Path("folder").symlink_to("../secrets")
    files, findings = find("**/*.md")
    assert files == ["a.md"]
    assert [(one.kind, one.count, one.is_loss) for one in findings] == [("links out of the workspace, not followed", 2, True)]
    for pattern in ("out.md", "folder/*.md", "folder/key.md", "o*.md", "fo*/**"):
        with pytest.raises(InputError, match="secret"):
            find(pattern)
    assert find("../secrets/*.md")[0] == ["../secrets/key.md"]
    assert find("**/*.md", "!out.md", "!folder")[1][0].count == 1


def test_cycles_of_links_end(folder: Path) -> None:
    write("docs/a.md", "a")
    Path("docs/loop").symlink_to("..")
    Path("one.md").symlink_to("two.md")
    Path("two.md").symlink_to("one.md")
    Path("gone.md").symlink_to("missing.md")
    files, findings = find("**/*.md")
    assert files == ["docs/a.md"]
    assert [(one.kind, one.count, one.is_loss) for one in findings] == [
        ("broken links", 3, True),
        ("links to folders, not followed", 1, False),
    ]


@pytest.mark.parametrize("name", ["app/[id].tsx", "app/[...slug]/page.tsx", "app/[[x]].tsx", "notes [old].md", "[a-z].md"])
def test_a_name_with_brackets_is_itself_where_it_exists(folder: Path, name: str) -> None:
    write(name, "text")
    for other in ("app/i.tsx", "app/s/page.tsx", "notes o.md", "x.md"):
        write(other, "other")
    assert find(name)[0] == [name]
    assert name in find("**/*")[0]
    assert name not in find("**/*", f"!{name}")[0]
    assert name in find(f"**/{Path(name).name}")[0]


def test_brackets_are_a_pattern_where_no_such_name_exists(folder: Path) -> None:
    for name in ("a.md", "b.md", "c.md"):
        write(name, name)
    assert find("[ab].md")[0] == ["a.md", "b.md"]


def test_a_name_with_a_comma_is_found(folder: Path) -> None:
    for name in ("one, two.md", "a,b,c.md", "a.md"):
        write(name, name)
    data = TrainInputs(mode="train", data="one, two.md, a,b,c.md, a.md").data  # type: ignore[arg-type]
    assert find(*data)[0] == ["a,b,c.md", "a.md", "one, two.md"]
    assert find("a,b,c.md")[0] == ["a,b,c.md"]  # an item of a list in the YAML file
    assert find("*.md", "!a,b", "c.md")[0] == ["a.md", "one, two.md"]
    with pytest.raises(InputError, match=r"use \? in its place"):
        find("x", "y.md")
    assert find("a?b?c.md")[0] == ["a,b,c.md"]


def test_braces_are_refused_with_the_way_to_write_them(folder: Path) -> None:
    write("a.md", "a")
    with pytest.raises(InputError, match="Braces are not expanded"):
        find("**/*.{md", "txt}")


def test_a_folder_that_is_left_out_is_named(folder: Path) -> None:
    write("a.md", "text " * 400)
    write("b.md", "other " * 400)
    write("model/README.md", "card")
    write("model/model.safetensors", "")
    tokens = corpus_tokens(TrainInputs(mode="train", data=("**/*.md",), tokenizer="bytes", val_fraction=0.5), None)
    assert tokens.documents == 2
    assert [(one.kind, one.count) for one in tokens.findings] == [("files of model folders left out", 1)]
