import os
import pickle
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from tokenizers import models, normalizers

from echoself_action.corpus.char_vocab import character_encoder, character_tokenizer, read_meta
from echoself_action.corpus.make_tokenizer import ids_tokenizer, load_tokenizer, make_tokenizer
from echoself_action.corpus.tokenizer import Tokenizer
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


def test_char_vocabulary_round_trip(path: Path, tmp_path: Path) -> None:
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


@pytest.mark.parametrize(("name", "ids"), [("code_points", [97, 90, 32, 8364]), ("printable_ascii", [65, 58, 0, 95])])
def test_character_codes_are_the_ids(name: str, ids: list[int], tmp_path: Path) -> None:
    tokenizer = make_tokenizer(name, lambda: iter(()))
    assert tokenizer.encode_batch(["aZ €"])[0].tolist() == ids
    assert tokenizer.decode(range(32, 127)).startswith(" !" if name == "code_points" else "@A")
    tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert (loaded.name, loaded.digest, loaded.end_of_text) == (name, tokenizer.digest, None)


EDGES = ["", "\r\n", "\n\r\n\n", "a\r", "😀a😀", "e\u0301é", "\0\x7f\x85\u2028\ufeff\uffff", "\U0010fffd", " \t 中文"]


@pytest.mark.parametrize("size", [0, 255, 256, 257, 65_535, 65_536])
def test_char_encoder_gives_the_ids_of_tokenizers(size: int) -> None:
    """Around the sizes at which an id takes one byte more."""
    used = set("".join(EDGES))
    others = (chr(code) for code in range(0x10000, 0x10FFFF) if chr(code) not in used)
    vocabulary = [*used, *(next(others) for _ in range(size - len(used)))][::-1]
    backend = character_tokenizer(vocabulary)
    texts = [*EDGES, "".join(EDGES), "".join(vocabulary), vocabulary[0] + vocabulary[-1]]
    expected = [encoding.ids for encoding in backend.encode_batch(texts)]
    assert expected[-2] == list(range(len(vocabulary)))
    assert [ids.tolist() for ids in Tokenizer(backend, None, "characters").encode_batch(texts)] == expected
    assert character_encoder(backend)


@pytest.mark.parametrize("unknown", ["\0", "a", "c", "e", "é", "\uffff", "😀", "\U0010ffff", "\r\n"])
def test_an_unknown_character_is_detected_at_any_position(unknown: str) -> None:
    backend = character_tokenizer(["d", "b", "\n"])
    encode = character_encoder(backend)
    assert encode
    for text in (unknown, f"bd{unknown}", f"{unknown}bd", f"b{unknown}d"):
        with pytest.raises(Exception, match="Missing"):
            backend.encode(text)
        with pytest.raises(ValueError, match=re.escape(f"{unknown[0]!r} has no id")):
            encode(text)


def test_no_char_encoder_for_other_kinds_of_tokenizers() -> None:
    with_unknown = character_tokenizer(["a", "?"])
    with_unknown.model = models.WordLevel({"a": 0, "?": 1}, unk_token="?")
    lower = character_tokenizer(["a", "?"])
    lower.normalizer = normalizers.Lowercase()
    added = character_tokenizer(["a", "?"])
    added.add_tokens(["aa"])
    for backend, text in ((with_unknown, "ab"), (lower, "A?"), (added, "aaa")):
        assert character_encoder(backend) is None
        assert Tokenizer(backend, None, "other").encode_batch([text])[0].tolist() == backend.encode(text).ids
    assert character_encoder(tokenizers.Tokenizer(models.BPE())) is None


def test_unknown_characters_are_named(path: Path) -> None:
    with pytest.raises(InputError, match=r"not in this model's vocabulary of .* characters: 'ß', 'z'"):
        make_tokenizer(str(path), lambda: iter(())).encode_batch(["To be", "ßz"])


def test_text_for_an_unknown_vocabulary_is_refused(tmp_path: Path) -> None:
    tokenizer = ids_tokenizer(12)
    tokenizer.save(tmp_path)
    assert load_tokenizer(tmp_path).name == tokenizer.name == "ids"
    assert tokenizer.encode_batch(["0 11"])[0].tolist() == [0, 11]
    with pytest.raises(InputError, match=r"The vocabulary of this model is unknown, .* it contains 'To', 'be'"):
        tokenizer.encode_batch(["To be"])


class Runs:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch canary",)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (meta(itos=Runs()), "it references posix.system, which a vocabulary never needs"),
        (OrderedDict(meta()), "it references collections.OrderedDict"),
        ([1], "has no `itos`"),
        ({"vocab_size": 5}, "has no `itos`"),
        (meta(itos={0: "ab"}), "not one character for each id"),
        (meta(itos={1: "a"}), "not one character for each id"),
        (meta(itos={0: "\ud800"}), "not one character for each id"),
        (meta(itos={0: "a", 1: "a"}), "a character with two ids"),
        (meta(stoi={"a": 0}), "is inconsistent"),
        (meta(vocab_size=3), "is inconsistent"),
        (meta() | {("a", 1): 2}, "it has tuples, which a vocabulary never needs"),
    ],
)
def test_an_invalid_meta_pkl_is_refused_and_runs_no_code(
    content: object, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=why):
        read_meta(write(tmp_path / "meta.pkl", content))
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x80\x04", b"\x80\x02\xff.", bytes(5 << 20)])
def test_a_file_that_is_not_a_pickle_is_refused_with_its_path(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "meta.pkl").write_bytes(content)
    with pytest.raises(InputError, match=r"The vocabulary \S*meta.pkl is .*. Nothing was tokenized"):
        make_tokenizer(str(tmp_path / "meta.pkl"), lambda: iter(()))
