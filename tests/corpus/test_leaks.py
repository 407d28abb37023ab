"""Held-out text that is in the training text too is left out of training; all other text is trained on, byte for byte."""

import json
import random
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from echoself_action.corpus.leaks import COMMON, MIN_CHARACTERS
from echoself_action.corpus.make_tokenizer import make_tokenizer
from echoself_action.corpus.parquet_dataset import read_rows, restore, write_dataset
from echoself_action.corpus.readers import read_documents
from echoself_action.corpus.split import is_validation
from echoself_action.corpus.token_cache import prepare_tokens
from echoself_action.corpus.tokenizer import Tokenizer
from echoself_action.corpus.tokens import Ids, Tokens, hash_file
from echoself_action.errors import InputError

END = "<|endoftext|>"
SHARED = "This paragraph is long enough to be learnt by heart, and it is in several documents of the corpus."


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return make_tokenizer("bytes", lambda: iter(()))


def prepare(files: Sequence[Path], tokenizer: Tokenizer, folder: Path, val_fraction: float = 0.5) -> Tokens:
    return prepare_tokens(sorted(files), tokenizer, folder / "cache", val_fraction, "fail", pytest.fail)


def texts(ids: Ids, tokenizer: Tokenizer) -> list[str]:
    *found, last = tokenizer.decode(ids).split(END)
    assert not last
    return found


def variants(form: str, *, held_out: bool, fraction: float = 0.5) -> Iterator[str]:
    """Texts of one split: `form` with a number."""
    made = (form.format(i) for i in range(10_000))
    return (text for text in made if is_validation(text, fraction) == held_out)


def write_records(folder: Path, name: str, documents: Sequence[str]) -> Path:
    path = folder / name
    match path.suffix:
        case ".jsonl":
            path.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
        case ".json":
            path.write_text(json.dumps([{"text": text} for text in documents]))
        case _:
            pq.write_table(pa.table({"text": list(documents)}), path)
    return path


def normal(paragraph: str) -> str:
    return " ".join(unicodedata.normalize("NFC", paragraph).split())


def by_lines(text: str) -> Iterator[str]:
    """The paragraphs with the blank lines around them, read line by line: independent of the code that is tested."""
    lines = text.split("\n")
    unit, blank = "", False
    for number, line in enumerate(lines):
        if blank and line.strip() and unit.strip():
            yield unit
            unit = ""
        blank = not line.strip()
        unit += line + "\n" * (number < len(lines) - 1)
    if unit:
        yield unit


def check(files: Sequence[Path], tokens: Tokens, tokenizer: Tokenizer, fraction: float) -> None:
    """The training text is all text of the training documents in order, without the held-out paragraphs."""
    documents = [document.text for document in read_documents(sorted(files, key=hash_file), "fail", pytest.fail)]
    train = [text for text in documents if not is_validation(text, fraction)]
    val = [text for text in documents if is_validation(text, fraction)]
    held_out = {name for text in val for part in by_lines(text) if len(name := normal(part)) >= MIN_CHARACTERS}
    copies = Counter(normal(part) for text in train for part in by_lines(text))
    leaks = {name for name in held_out if 0 < copies[name] < COMMON}
    trained, kept = texts(tokens.train, tokenizer), [part for text in train for part in by_lines(text)]
    assert not leaks & {normal(part) for text in trained for part in by_lines(text)}
    assert "".join(trained) == "".join(part for part in kept if normal(part) not in leaks)
    assert not any(text.isspace() for text in trained)
    assert tokens.leaked_paragraphs == sum(copies[name] for name in leaks)
    sizes = tokens.bytes_train, tokens.bytes_val, tokens.leaked_bytes
    assert sum(size or 0 for size in sizes) == sum(len(text.encode()) for text in documents)
    assert Counter("".join(texts(tokens.val, tokenizer))) == Counter("".join(val))


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.parquet"])
def test_a_held_out_paragraph_is_left_out_of_the_training_records(tokenizer: Tokenizer, tmp_path: Path, name: str) -> None:
    held_out = next(variants(f"{SHARED}\n\nHeld out {{}}.", held_out=True))
    train = next(variants(f"Before {{}}.\n\n{SHARED}\n\n\nAfter.", held_out=False))
    tokens = prepare([write_records(tmp_path, name, [held_out, train])], tokenizer, tmp_path)
    before, _, after = train.partition(f"{SHARED}\n\n\n")
    assert texts(tokens.train, tokenizer) == [before, after]  # not joined: they do not follow each other in any document
    assert texts(tokens.val, tokenizer) == [held_out]
    assert (tokens.leaked_paragraphs, tokens.leaked_bytes) == (1, len(SHARED) + 3)
    assert tokens.documents == 2
    assert tokens.bytes_train == len(before) + len(after)


def test_messages_of_chats_are_compared(tokenizer: Tokenizer, tmp_path: Path) -> None:
    def chat(i: int) -> list[dict[str, str]]:
        return [{"role": "user", "content": f"Question {i}?"}, {"role": "assistant", "content": SHARED}]

    def text(i: int) -> str:
        return f"User: Question {i}?\n\nAssistant: {SHARED}"

    train = next(i for i in range(99) if not is_validation(text(i), 0.5))
    held_out = next(i for i in range(99) if is_validation(text(i), 0.5))
    path = tmp_path / "chats.jsonl"
    path.write_text("".join(json.dumps({"messages": chat(i)}) + "\n" for i in (train, held_out)))
    tokens = prepare([path], tokenizer, tmp_path)
    assert texts(tokens.train, tokenizer) == [f"User: Question {train}?\n\n"]
    assert texts(tokens.val, tokenizer) == [text(held_out)]


def test_white_space_and_unicode_form_make_no_difference_but_letters_and_case_do(tokenizer: Tokenizer, tmp_path: Path) -> None:
    name = "É" + SHARED
    held_out = next(variants(f"{name}\n\n{{}}", held_out=True))
    same = unicodedata.normalize("NFD", name).replace(" is ", "  is\n\t")
    others = [name.replace("heart", "Heart"), name.replace("heart", "hearts")]
    train = next(variants("\n\n".join([same, *others, "{}"]), held_out=False))
    tokens = prepare([write_records(tmp_path, "a.jsonl", [held_out, train])], tokenizer, tmp_path)
    assert texts(tokens.train, tokenizer) == [train.removeprefix(f"{same}\n\n")]


def test_short_and_common_paragraphs_stay_in_the_training_text(tokenizer: Tokenizer, tmp_path: Path) -> None:
    short = SHARED[: MIN_CHARACTERS - 1]
    held_out = next(variants(f"{SHARED}\n\n{short}\n\n{{}}", held_out=True))
    documents = variants(f"{{}}\n\n{SHARED}\n\n{short}", held_out=False)
    train = sorted(next(documents) for _ in range(COMMON))
    common = prepare([write_records(tmp_path, "a.jsonl", [held_out, *train])], tokenizer, tmp_path)
    assert sorted(texts(common.train, tokenizer)) == train
    assert (common.leaked_bytes, common.leaked_paragraphs, common.common_bytes) == (0, 0, len(SHARED))
    rarer = prepare([write_records(tmp_path, "a.jsonl", [held_out, *train[1:]])], tokenizer, tmp_path)
    assert rarer.leaked_paragraphs == COMMON - 1
    assert rarer.common_bytes == 0
    assert sorted(texts(rarer.train, tokenizer)) == sorted(part for text in train[1:] for part in text.split(f"{SHARED}\n\n"))


def test_a_document_that_is_held_out_as_a_whole_disappears(tokenizer: Tokenizer, tmp_path: Path) -> None:
    held_out = next(
        variants(f"{SHARED} {{}}\n\nMore text, which is held out too, and is as long as the paragraph before.", held_out=True)
    )
    gone = next(
        variant for gap in range(2, 99) if not is_validation(variant := "\n\n" + held_out.replace("\n\n", "\n" * gap), 0.5)
    )
    kept = next(variants("Kept {}", held_out=False))
    tokens = prepare([write_records(tmp_path, "a.jsonl", [held_out, gone, kept])], tokenizer, tmp_path)
    assert texts(tokens.train, tokenizer) == [kept]
    assert (tokens.documents, tokens.leaked_paragraphs, tokens.leaked_bytes) == (2, 2, len(gone))
    with pytest.raises(InputError, match=rf"no training text.*1 documents are held out.*\({len(gone)} bytes\)") as caught:
        prepare([write_records(tmp_path, "a.jsonl", [held_out, gone])], tokenizer, tmp_path)
    assert "remove copies" in caught.value.hint


def test_passages_of_one_file_do_not_continue_across_a_leak(shakespeare: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    """A scene that was copied to another place of the same file."""
    scene = shakespeare[100_000:125_000]
    path = tmp_path / "plays.txt"
    path.write_text(shakespeare[:200_000] + "\n\nSCENE AGAIN\n\n" + scene + shakespeare[200_000:300_000], encoding="utf-8")
    tokens = prepare([path], tokenizer, tmp_path, 0.3)
    check([path], tokens, tokenizer, 0.3)
    assert tokens.leaked_bytes


def test_a_published_dataset_holds_whole_documents_and_gives_the_same_tokens(tokenizer: Tokenizer, tmp_path: Path) -> None:
    held_out = next(variants(f"{SHARED}\n\nHeld out {{}}.", held_out=True))
    train = next(variants(f"Before {{}}.\n\n{SHARED}\n\nAfter.", held_out=False))
    files = [tmp_path / "held-out.md", tmp_path / "train.md"]
    for path, text in zip(files, (held_out, train), strict=True):
        path.write_text(text)
    for name in ("parquet", "restored"):
        (tmp_path / name).mkdir()
    dataset = write_dataset(lambda: read_rows(files, tmp_path, 0.5, "fail", pytest.fail), tmp_path / "parquet")
    assert pq.read_table(dataset.files["train.parquet"])["text"].to_pylist() == [train]
    restored = restore(list(dataset.files.values()), tmp_path / "restored")
    first, second = prepare(files, tokenizer, tmp_path), prepare(list(restored), tokenizer, tmp_path / "restored")
    assert (second.digest, second.val_digest, second.leaked_bytes) == (first.digest, first.val_digest, len(SHARED) + 2)
    assert second.train.tolist() == first.train.tolist()


@pytest.mark.parametrize("seed", range(60))
def test_no_held_out_paragraph_is_trained_on_and_all_other_text_is(tokenizer: Tokenizer, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    words = ["the", "step", "loss", "é", "文字", "a", "corpus", "—", "e\u0301", "model."]
    gaps, spaces = ["\n\n", "\n\n\n", "\n \n", "\n\t\n\n"], [" ", "  ", "\n", " \t"]
    pool = [" ".join(chance.choices(words, k=chance.randint(1, 60))) for _ in range(chance.randint(5, 40))]
    files = []
    for number in range(chance.randint(2, 8)):
        kind = chance.choice(["txt", "txt", "jsonl", "json", "parquet"])
        documents = []
        for _ in range(chance.randint(1, 20)):
            parts = [chance.choice(pool) for _ in range(chance.randint(1, 12))]
            own = f"{number} " + " ".join(chance.choices(words, k=30))
            parts = [chance.choice(spaces).join(part.split(" ")) for part in [*parts, own]]
            documents.append(chance.choice(["", "\n\n"]) + "".join(part + chance.choice(gaps) for part in parts))
        path = tmp_path / f"{number}.{kind}"
        if kind == "txt":
            path.write_text("".join(documents), encoding="utf-8")
        else:
            write_records(tmp_path, path.name, documents)
        files.append(path)
    fraction = chance.choice([0.1, 0.3, 0.5])
    # neither split is empty
    files.append(
        write_records(tmp_path, "both.jsonl", [next(variants("{}", held_out=split, fraction=0.1)) for split in (True, False)])
    )
    check(files, prepare(files, tokenizer, tmp_path, fraction), tokenizer, fraction)
