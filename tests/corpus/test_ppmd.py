import random
from pathlib import Path

import pytest

from echoself_action.corpus import ppmd
from echoself_action.corpus.make_tokenizer import make_tokenizer
from echoself_action.corpus.ppmd import LARGEST, CollectedText, added_bits_per_byte, ppmd_bits_per_byte
from echoself_action.corpus.readers import read_documents
from echoself_action.corpus.split_corpus import split_corpus
from echoself_action.corpus.token_cache import prepare_tokens
from echoself_action.corpus.tokens import Tokens, hash_file

from ..conftest import SCENES


def prepare(cache: Path, files: list[Path] = SCENES, spec: str = "bytes") -> Tokens:
    tokenizer = make_tokenizer(spec, lambda: (scene.read_text() for scene in SCENES))
    return prepare_tokens(files, tokenizer, cache, 0.1, "fail", pytest.fail)


def test_text_that_was_read_before_needs_few_bits_and_random_bytes_need_eight() -> None:
    text = "".join(scene.read_text() for scene in SCENES[:4]).encode()
    again, other = added_bits_per_byte(text, text[-5000:]), added_bits_per_byte(text, SCENES[5].read_bytes())
    assert again < 0.2 < 1 < other < 4
    assert 7.9 < added_bits_per_byte(text, random.Random(1).randbytes(4000)) < 9


def test_the_corpus_has_the_figure_of_its_texts_whatever_its_tokenizer(tmp_path: Path) -> None:
    paths = sorted(SCENES, key=hash_file)
    with split_corpus(read_documents(paths, "fail", pytest.fail), 0.1, tmp_path) as corpus:
        train, val = ("".join(part.text for part in parts).encode() for parts in (corpus.train(), corpus.val()))
    expected = pytest.approx(added_bits_per_byte(train, val), abs=1e-6)
    first = prepare(tmp_path / "cache")
    assert first.ppmd_bits_per_byte == expected
    assert prepare(tmp_path / "cache", spec="bpe:300").ppmd_bits_per_byte == expected


def test_the_figure_is_cached_and_added_to_a_cache_of_an_earlier_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepare(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(ppmd, "added_bits_per_byte", lambda *_: pytest.fail("compressed again"))
        again = prepare(tmp_path)
    assert (again.reused, again.ppmd_bits_per_byte) == (True, first.ppmd_bits_per_byte)
    [meta] = tmp_path.glob("*/meta.json")
    lines = meta.read_text().splitlines()
    meta.write_text("\n".join(line for line in lines if "is_compressed" not in line))
    earlier = prepare(tmp_path)
    assert (earlier.reused, earlier.ppmd_bits_per_byte, earlier.digest) == (False, first.ppmd_bits_per_byte, first.digest)


def test_a_large_corpus_is_not_compressed() -> None:
    train, held_out = CollectedText(), CollectedText()
    train.add(bytes(LARGEST))
    held_out.add(b"a")
    assert ppmd_bits_per_byte(train, held_out) is None
    assert bytes(train), "it was kept as long as the held-out text could have fitted"
    train.add(b"a")
    assert not bytes(train), "what is not compressed is not kept in memory"
