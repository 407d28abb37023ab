from pathlib import Path

import numpy as np
import pytest

from echoself_action.corpus.make_tokenizer import make_tokenizer
from echoself_action.corpus.token_cache import prepare_tokens
from echoself_action.corpus.tokenizer import Tokenizer
from echoself_action.corpus.tokens import Source
from echoself_action.errors import InputError


@pytest.fixture(scope="module")
def gpt2(shared: Path) -> Tokenizer:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(shared / "tiktoken"))
        return make_tokenizer("gpt2", lambda: iter(()))


def write(folder: Path, train: list[int], val: list[int]) -> list[Path]:
    folder.mkdir(exist_ok=True)
    files = [folder / "train.bin", folder / "val.bin"]
    for path, ids in zip(files, (train, val), strict=True):
        np.array(ids, np.uint16).tofile(path)
    return files


def prepare(files: list[Path], tokenizer: Tokenizer, cache: Path) -> object:
    return prepare_tokens(files, tokenizer, cache, 0.1, "fail", pytest.fail)


def test_nanogpt_token_files_are_mapped_in_place(shakespeare: str, gpt2: Tokenizer, tmp_path: Path) -> None:
    # As nanoGPT's data/shakespeare/prepare.py writes them: the first 90 % and the rest, with no end of text.
    cut = int(len(shakespeare) * 0.9)
    texts = [shakespeare[:cut], shakespeare[cut:]]
    train, val = (ids.tolist() for ids in gpt2.encode_batch(texts))
    files = write(tmp_path / "data", train, val)
    tokens = prepare_tokens(files, gpt2, tmp_path / "cache", 0.1, "fail", pytest.fail)
    assert len(tokens.train) == 301_966  # as nanoGPT's readme says
    assert len(tokens.val) == 36_059
    assert tokens.train.tolist() == train
    assert tokens.val.tolist() == val
    assert [tokens.bytes_train, tokens.bytes_val] == [len(text.encode()) for text in texts]
    assert (tokens.documents, tokens.reused) == (0, True)
    assert tokens.sources == (Source(str(tmp_path / "data/train.bin"), len(train)),)
    assert not (tmp_path / "cache").exists()


def test_documents_are_counted_by_end_of_text_ids(gpt2: Tokenizer, tmp_path: Path) -> None:
    tokens = prepare_tokens(write(tmp_path, [1, 50256, 2, 50256], [3, 50256]), gpt2, tmp_path, 0.1, "fail", pytest.fail)
    assert (tokens.documents, tokens.val_documents) == (3, 1)


def test_the_digest_depends_on_the_content(gpt2: Tokenizer, tmp_path: Path) -> None:
    digests = [
        prepare_tokens(write(tmp_path / name, [1, 2], val), gpt2, tmp_path, 0.1, "fail", pytest.fail).digest
        for name, val in (("a", [3]), ("b", [3]), ("c", [4]))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_ids_outside_the_vocabulary_are_refused(gpt2: Tokenizer, tmp_path: Path) -> None:
    files = write(tmp_path, [0] * 100 + [50257], [1])
    with pytest.raises(InputError, match=r"train\.bin contains token id 50,257, but the tokenizer gpt2 has only 50,257"):
        prepare(files, gpt2, tmp_path)


@pytest.mark.parametrize("content", [b"", b"odd"])
def test_a_file_of_invalid_size_is_refused(gpt2: Tokenizer, tmp_path: Path, content: bytes) -> None:
    files = write(tmp_path, [1], [1])
    files[1].write_bytes(content)
    with pytest.raises(InputError, match=f"val.bin has {len(content)} bytes"):
        prepare(files, gpt2, tmp_path)


def test_only_one_train_and_val_pair_is_accepted(gpt2: Tokenizer, tmp_path: Path) -> None:
    pair, other = write(tmp_path / "a", [1], [1]), write(tmp_path / "b", [1], [1])
    text = tmp_path / "text.txt"
    text.write_text("text")
    for files in (pair[:1], pair[1:], [*pair, *other], [*pair, text], [pair[0], other[1]]):
        with pytest.raises(InputError, match=r"train\.bin and val\.bin of one folder"):
            prepare(files, gpt2, tmp_path)
