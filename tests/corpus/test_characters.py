import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from echoself_action.corpus.characters import read_meta
from echoself_action.corpus.tokenizer import ids_tokenizer, load_tokenizer, make_tokenizer
from echoself_action.errors import InputError

TEXT = "To be,\nor not: 'être' €"
CHARACTERS = sorted(set(TEXT))


def write(path: Path, content: object) -> Path:
    path.write_bytes(pickle.dumps(content))
    return path


def meta(**changes: Any) -> dict[str, Any]:
    ids = {one: i for i, one in enumerate(CHARACTERS)}
    return {"vocab_size": len(ids), "itos": dict(enumerate(CHARACTERS)), "stoi": ids} | changes


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "meta.pkl", meta())


def test_ids_are_those_of_the_vocabulary_and_text_comes_back(path: Path, tmp_path: Path) -> None:
    tokenizer = make_tokenizer(str(path), lambda: iter(()))
    assert (tokenizer.name, tokenizer.vocab_size, tokenizer.end_of_text_id) == ("characters", len(CHARACTERS), None)
    ids = tokenizer.encode_batch([TEXT])[0]
    assert ids.tolist() == [CHARACTERS.index(one) for one in TEXT]
    assert tokenizer.decode(ids) == TEXT
    assert tokenizer.token_bytes is None
    tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert (loaded.name, loaded.digest) == (tokenizer.name, tokenizer.digest)
    assert np.array_equal(loaded.encode_batch([TEXT])[0], ids)


def test_a_character_that_it_has_not_is_named(path: Path) -> None:
    with pytest.raises(InputError, match=r"not among the .* characters of this model: 'ß', 'z'"):
        make_tokenizer(str(path), lambda: iter(())).encode_batch(["To be", "ßz"])


def test_text_for_a_vocabulary_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    tokenizer = ids_tokenizer(12)
    tokenizer.save(tmp_path)
    assert load_tokenizer(tmp_path).name == tokenizer.name == "ids"
    assert tokenizer.encode_batch(["0 11"])[0].tolist() == [0, 11]
    with pytest.raises(InputError, match=r"Nobody knows this model's vocabulary: .* 'To', 'be' are none"):
        tokenizer.encode_batch(["To be"])


class Runs:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch canary",)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (meta(itos=Runs()), "it asks for posix.system, and a vocabulary asks for nothing"),
        (OrderedDict(meta()), "it asks for collections.OrderedDict"),
        ([1], "has no `itos`"),
        ({"vocab_size": 5}, "has no `itos`"),
        (meta(itos={0: "ab"}), "not one character for each id"),
        (meta(itos={1: "a"}), "not one character for each id"),
        (meta(itos={0: "\ud800"}), "not one character for each id"),
        (meta(itos={0: "a", 1: "a"}), "a character with two ids"),
        (meta(stoi={"a": 0}), "contradicts itself"),
        (meta(vocab_size=3), "contradicts itself"),
    ],
)
def test_a_meta_pkl_that_is_none_is_refused_and_runs_nothing(
    content: object, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=why):
        read_meta(write(tmp_path / "meta.pkl", content))
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x80\x04", b"\x80\x02\xff.", bytes(5 << 20)])
def test_what_is_no_pickle_is_said_with_the_path(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "meta.pkl").write_bytes(content)
    with pytest.raises(InputError, match=r"The vocabulary \S*meta.pkl is .*, so nothing was tokenised"):
        make_tokenizer(str(tmp_path / "meta.pkl"), lambda: iter(()))
