import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from echoself_action.corpus import token_cache
from echoself_action.corpus.char_vocab import character_tokenizer
from echoself_action.corpus.findings import Finding
from echoself_action.corpus.globs import find_files
from echoself_action.corpus.make_tokenizer import make_tokenizer
from echoself_action.corpus.readers import read_documents
from echoself_action.corpus.source_weights import source_name
from echoself_action.corpus.split import is_validation, split_position
from echoself_action.corpus.split_corpus import split_corpus
from echoself_action.corpus.token_cache import prepare_tokens
from echoself_action.corpus.tokenizer import Tokenizer
from echoself_action.corpus.tokens import Tokens, hash_file, require_block
from echoself_action.errors import InputError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return make_tokenizer("bytes", lambda: iter(()))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def prepare(files: list[Path], tokenizer: Tokenizer, cache: Path, val_fraction: float = 0.1) -> Tokens:
    return prepare_tokens(files, tokenizer, cache, val_fraction, "fail", pytest.fail)


def test_every_document_is_in_its_split_and_ends_with_end_of_text(
    shakespeare_file: Path, tokenizer: Tokenizer, tmp_path: Path, cache: Path
) -> None:
    documents = [document.text for document in read_documents([shakespeare_file], "fail", pytest.fail)]
    tokens = prepare(lines(tmp_path, documents), tokenizer, cache)
    for ids, held_out in ((tokens.train, False), (tokens.val, True)):
        texts = tokenizer.decode(ids).split("<|endoftext|>")
        assert texts.pop() == ""
        assert sorted(texts) == sorted(text for text in documents if is_validation(text, 0.1) == held_out)
    assert tokens.documents == len(documents)
    assert tokens.val_documents == sum(is_validation(text, 0.1) for text in documents)
    assert tokens.leaked_bytes == 0


def test_passages_of_a_long_file_are_joined_within_a_split(shakespeare_file: Path, tokenizer: Tokenizer, cache: Path) -> None:
    tokens = prepare([shakespeare_file], tokenizer, cache)
    text = shakespeare_file.read_text(encoding="utf-8")
    ends = int((tokens.train == 256).sum()), int((tokens.val == 256).sum())
    assert tokens.val_documents >= ends[1] > 5
    assert abs(ends[0] - ends[1]) <= 1
    assert ends[0] < tokens.documents - tokens.val_documents
    assert tokens.bytes_train == len(tokens.train) - ends[0]
    assert tokens.bytes_val == len(tokens.val) - ends[1]
    assert len(text.encode()) == tokens.bytes_train + tokens.bytes_val
    for ids in (tokens.train, tokens.val):
        assert all(segment in text for segment in tokenizer.decode(ids).split("<|endoftext|>"))


@pytest.mark.usefixtures("gpt2_vocabulary")
def test_joined_passages_have_the_ids_of_the_whole_text(shakespeare_file: Path, cache: Path) -> None:
    gpt2 = make_tokenizer("gpt2", lambda: iter(()))
    tokens = prepare([shakespeare_file], gpt2, cache)
    assert tokens.train.dtype == np.uint16
    ends = np.flatnonzero(tokens.train == gpt2.end_of_text_id)
    for start, end in zip([0, *(ends[:-1] + 1)], ends, strict=True):
        segment = tokens.train[start:end]
        assert gpt2.encode_batch([gpt2.decode(segment)])[0].tolist() == segment.tolist()


def test_token_files_contain_the_ids_of_tokenizers_in_order(
    shakespeare_file: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / "odd.jsonl"
    odd.write_text("\n".join(json.dumps({"text": text}) for text in ["😀 a\r\nb", "\rb", "é", *"abcdefghijklmno"]))
    files = [shakespeare_file, odd]
    characters = sorted({*shakespeare_file.read_text(encoding="utf-8"), *"😀é\r"})
    backend = character_tokenizer(characters)
    paths = sorted(files, key=hash_file)
    expected: dict[bool, list[int]] = {True: [], False: []}
    with split_corpus(read_documents(paths, "fail", pytest.fail), 0.1, tmp_path) as corpus:
        for held_out, parts in ((False, corpus.train()), (True, corpus.val())):
            expected[held_out] += [i for part in parts for i in backend.encode(part.text).ids]
    for batch in (10**9, 10_000, 1):
        monkeypatch.setattr(token_cache, "_BATCH", batch)
        tokens = prepare(files, Tokenizer(backend, None, "characters"), cache / str(batch))
        assert tokens.train.tolist() == expected[False]
        assert tokens.val.tolist() == expected[True]


def test_a_failed_tokenization_leaves_no_files(shakespeare_file: Path, cache: Path) -> None:
    with pytest.raises(InputError, match="not in this model's vocabulary of 2 characters"):
        prepare([shakespeare_file], Tokenizer(character_tokenizer(["a", "b"]), None, "characters"), cache)
    assert not list(cache.glob("*/*"))


def test_a_second_run_uses_the_cache(
    chat_files: list[Path], tokenizer: Tokenizer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepare(chat_files, tokenizer, cache)
    monkeypatch.setattr(tokenizer, "encode_batch", lambda _: pytest.fail("tokenized again"))
    second = prepare(chat_files, tokenizer, cache)
    assert (first.reused, second.reused) == (False, True)
    assert second.digest == first.digest
    assert np.array_equal(second.train, first.train)
    assert np.array_equal(second.val, first.val)
    assert (second.documents, second.bytes_train, second.bytes_val) == (
        first.documents,
        first.bytes_train,
        first.bytes_val,
    )


def test_the_digest_depends_only_on_content(chat_files: list[Path], tokenizer: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    copies = [Path(shutil.copy(path, tmp_path / f"elsewhere/{9 - i}.jsonl")) for i, path in enumerate(chat_files)]
    first = prepare(chat_files, tokenizer, tmp_path / "cache")
    second = prepare(find_files(["elsewhere/*"], tmp_path), tokenizer, tmp_path / "other/cache")
    assert second.digest == first.digest
    assert np.array_equal(second.train, first.train)

    bpe = make_tokenizer("bpe:260", lambda: iter(["to be or not to be " * 9] * 9))
    others = [
        prepare(chat_files, tokenizer, tmp_path, 0.2),
        prepare(chat_files[1:], tokenizer, tmp_path),
        prepare(chat_files, bpe, tmp_path),
    ]
    copies[0].write_bytes(copies[0].read_bytes() + b'{"text": "one more"}\n')
    others.append(prepare(copies, tokenizer, tmp_path))
    assert len({first.digest, *(tokens.digest for tokens in others)}) == 5


def test_damaged_token_files_are_written_again(chat_files: list[Path], tokenizer: Tokenizer, cache: Path) -> None:
    first = np.array(prepare(chat_files, tokenizer, cache).train)
    (train,) = cache.glob("*/train.bin")
    with train.open("r+b") as file:
        file.truncate(100)
    again = prepare(chat_files, tokenizer, cache)
    assert not again.reused
    assert np.array_equal(again.train, first)


PROGRAM = """
import sys
from pathlib import Path
from echoself_action.corpus.token_cache import prepare_tokens
from echoself_action.corpus.make_tokenizer import make_tokenizer
tokenizer = make_tokenizer("bytes", lambda: iter(()))
tokens = prepare_tokens([Path(sys.argv[1])], tokenizer, Path(sys.argv[2]), 0.1, "fail", print)
print(tokens.reused, tokens.digest, len(tokens.train))
"""


def start(corpus: Path, cache: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", PROGRAM, str(corpus), str(cache)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


@pytest.fixture
def large_corpus(shakespeare_file: Path, tmp_path: Path) -> Path:
    path = tmp_path / "large.txt"
    path.write_bytes(shakespeare_file.read_bytes() * 20)
    return path


def test_a_killed_run_leaves_no_cache_entry(large_corpus: Path, tokenizer: Tokenizer, cache: Path) -> None:
    process = start(large_corpus, cache)
    deadline = time.monotonic() + 30
    while not any(path.stat().st_size for path in cache.glob("*.partial/train.bin")):
        assert process.poll() is None, "ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert list(cache.glob("*.partial"))
    assert not list(cache.glob("*/meta.json"))
    tokens = prepare([large_corpus], tokenizer, cache)
    assert not tokens.reused
    sizes = tokens.bytes_train, tokens.bytes_val, tokens.leaked_bytes
    assert sum(size or 0 for size in sizes) == large_corpus.stat().st_size
    assert not list(cache.glob("*.partial"))


def test_of_two_concurrent_processes_one_tokenizes(large_corpus: Path, cache: Path) -> None:
    processes = [start(large_corpus, cache) for _ in range(2)]
    outputs = [process.communicate()[0].split() for process in processes]
    assert sorted(output[0] for output in outputs) == ["False", "True"]
    assert outputs[0][1:] == outputs[1][1:]


def test_skipped_files_are_reported_from_the_cache_and_refused_under_fail(
    chat_files: list[Path], tokenizer: Tokenizer, tmp_path: Path, cache: Path
) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"text": "fine"}\nbroken\n')
    files = [*chat_files, broken]
    findings_of_runs: list[list[Finding]] = [[], []]
    for findings in findings_of_runs:
        tokens = prepare_tokens(files, tokenizer, cache, 0.1, "skip", findings.append)
    assert tokens.reused
    assert list(tokens.findings) == findings_of_runs[0] == findings_of_runs[1]
    assert "broken.jsonl: line 2" in str(tokens.findings[0])
    with pytest.raises(InputError, match=r"broken\.jsonl, line 2"):
        prepare(files, tokenizer, cache)
    renamed = broken.rename(tmp_path / "renamed.jsonl")
    tokens = prepare_tokens([*chat_files, renamed], tokenizer, cache, 0.1, "skip", print)
    assert "renamed.jsonl: line 2" in str(tokens.findings[0])


def test_the_tokens_of_each_file_are_known_and_an_older_cache_is_made_again_only_if_they_are_needed(
    shakespeare_file: Path, chat_files: list[Path], tokenizer: Tokenizer, tmp_path: Path, cache: Path
) -> None:
    copy = Path(shutil.copy(chat_files[0], tmp_path / "a:1"))  # text of the same content
    files = [shakespeare_file, *chat_files, copy]
    tokens = prepare(files, tokenizer, cache)
    assert tokens.sources
    assert sum(source.tokens for source in tokens.sources) == len(tokens.train)
    by_name, start = {source.name: source.tokens for source in tokens.sources}, 0
    assert sorted(by_name) == sorted(map(source_name, files))
    for source in tokens.sources:
        text = tokenizer.decode(tokens.train[start : start + source.tokens])
        alone = "".join(document.text for document in read_documents([Path(source.name)], "fail", pytest.fail))
        assert all(document in alone for document in text.split("<|endoftext|>"))
        start += source.tokens
    (meta,) = cache.glob("*/meta.json")
    counts = json.loads(meta.read_text())
    del counts["train_tokens_by_file"]
    meta.write_text(json.dumps(counts))
    older = prepare(files, tokenizer, cache)
    assert (older.reused, older.sources) == (True, None)
    made = prepare_tokens(files, tokenizer, cache, 0.1, "fail", pytest.fail, needs_sources=True)
    assert (made.reused, made.sources) == (False, tokens.sources)
    assert prepare_tokens(files, tokenizer, cache, 0.1, "fail", pytest.fail, needs_sources=True).reused


def lines(tmp_path: Path, texts: list[str]) -> list[Path]:
    path = tmp_path / "texts.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    return [path]


def test_an_empty_validation_split_suggests_a_fraction(tokenizer: Tokenizer, tmp_path: Path, cache: Path) -> None:
    texts = [text for text in (f"document {i}" for i in range(100)) if split_position(text) > 0.15][:12]
    files = lines(tmp_path, texts)
    with pytest.raises(InputError, match=r"12 documents with 123 bytes of text, but with val_fraction 0\.1 none") as caught:
        prepare(files, tokenizer, cache)
    assert "is in the validation split" in caught.value.message
    assert not list(cache.glob("*/*"))
    fraction = float(caught.value.hint.split()[3].rstrip(","))
    assert 1 <= prepare(files, tokenizer, cache, fraction).val_documents <= 2


def test_an_empty_training_split_suggests_a_fraction(tokenizer: Tokenizer, tmp_path: Path, cache: Path) -> None:
    texts = [text for text in (f"document {i}" for i in range(100)) if split_position(text) < 0.1][:3]
    files = lines(tmp_path, texts)
    with pytest.raises(InputError, match="none of them is in the training split") as caught:
        prepare(files, tokenizer, cache)
    fraction = float(caught.value.hint.split()[3].rstrip(","))
    assert prepare(files, tokenizer, cache, fraction).documents == 3


@pytest.mark.parametrize("texts", [["just one"], ["the same"] * 5])
def test_one_document_can_not_be_split(tokenizer: Tokenizer, tmp_path: Path, cache: Path, texts: list[str]) -> None:
    with pytest.raises(InputError, match=f"{len(texts):,} documents") as caught:
        prepare(lines(tmp_path, texts), tokenizer, cache)
    assert caught.value.hint.startswith("Add text")


def test_both_splits_need_block_size_tokens(chat_files: list[Path], tokenizer: Tokenizer, cache: Path) -> None:
    tokens = prepare(chat_files, tokenizer, cache)
    fits = len(tokens.val) - 1
    require_block(tokens, fits)
    with pytest.raises(InputError, match=f"{len(tokens.val):,} validation tokens") as caught:
        require_block(tokens, fits + 1)
    assert f"Lower block_size to {fits} or less" in caught.value.hint


def test_a_large_vocabulary_uses_four_bytes_per_id(chat_files: list[Path], tmp_path: Path, cache: Path) -> None:
    folder = tmp_path / "tokenizer"
    make_tokenizer("bytes", lambda: iter(())).save(folder)
    parts = json.loads((folder / "tokenizer.json").read_text())
    parts["model"]["vocab"] |= {f"unused {i}": i for i in range(257, 70_000)}
    (folder / "tokenizer.json").write_text(json.dumps(parts))
    large = make_tokenizer(str(folder / "tokenizer.json"), lambda: iter(()))
    tokens = prepare(chat_files, large, cache)
    assert tokens.val.dtype == np.uint32
    assert large.decode(tokens.val).count("<|endoftext|>") == tokens.val_documents


def test_the_held_out_text_has_a_digest_of_its_own(chat_files: list[Path], tokenizer: Tokenizer, tmp_path: Path) -> None:
    copies = [Path(shutil.copy(path, tmp_path)) for path in chat_files]
    first = prepare(copies, tokenizer, tmp_path / "cache")
    assert prepare(copies, tokenizer, tmp_path / "cache").val_digest == first.val_digest
    texts = [text for text in (f"document {i}" for i in range(100)) if not is_validation(text, 0.1)]
    grown = prepare([*copies, *lines(tmp_path, texts)], tokenizer, tmp_path / "cache")
    assert grown.digest != first.digest
    bpe = make_tokenizer("bpe:260", lambda: iter(["to be or not to be " * 9] * 9))
    others = [prepare(copies, tokenizer, tmp_path, 0.2), prepare(copies, bpe, tmp_path)]
    assert len({first.val_digest, *(tokens.val_digest for tokens in others)}) == 3


def test_held_out_ids_stay_the_same_when_other_text_of_the_corpus_changes(
    shakespeare: str, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    size = len(shakespeare) // 8
    for i in range(8):
        (tmp_path / f"{i}.txt").write_text(shakespeare[i * size : (i + 1) * size], encoding="utf-8")
    first = prepare(sorted(tmp_path.glob("*.txt")), tokenizer, tmp_path / "cache")
    changed = 0
    for path in sorted(tmp_path.glob("*.txt")):
        documents = [document.text for document in read_documents([path], "fail", pytest.fail)]
        if not is_validation(documents[0], 0.1) and not is_validation("New. " + documents[0], 0.1):
            path.write_text("New. " + "".join(documents), encoding="utf-8")
            changed += 1
    assert changed >= 4
    second = prepare(sorted(tmp_path.glob("*.txt")), tokenizer, tmp_path / "cache")
    assert second.digest != first.digest
    assert second.val_digest == first.val_digest
    assert np.array_equal(second.val, first.val)
