import hashlib
from itertools import pairwise

import pytest

from echoself_action.corpus.chunking import MAX_PASSAGE, MIN_PASSAGE, cut_passages


def cut(text: str) -> list[str]:
    return list(cut_passages([text]))


def test_a_long_text_is_cut_into_passages_of_bounded_size(shakespeare: str) -> None:
    passages = cut(shakespeare)
    assert "".join(passages) == shakespeare
    assert len(passages) > 100
    assert all(MIN_PASSAGE <= len(passage) <= MAX_PASSAGE for passage in passages[:-1])


def test_passages_end_at_blank_lines(shakespeare: str) -> None:
    assert all(passage.endswith("\n\n") and not after.isspace() for passage, after in pairwise(cut(shakespeare)))


@pytest.mark.parametrize("size", [1, 7, 1000, 65_536])
def test_passages_do_not_depend_on_block_size(shakespeare: str, size: int) -> None:
    text = shakespeare[:60_000] + "x" * 50_000 + "\n" * 20_000 + " \n\n" + "no end" * 5_000
    assert list(cut_passages(text[i : i + size] for i in range(0, len(text), size))) == cut(text)


def test_passage_boundaries_are_stable(shakespeare: str) -> None:
    """Otherwise models would have another corpus, and be trained on held-out passages."""
    nasty = "x" * 50_000 + "\n" * 20_000 + " \n\n" + "no end" * 5_000
    lengths = [len(passage) for passage in cut(shakespeare[:60_000] + nasty + shakespeare[60_000:])]
    assert len(lengths) == 192
    assert hashlib.sha256(repr(lengths).encode()).hexdigest().startswith("19834caa4c43f6b7")


def test_appending_changes_only_the_last_passage(shakespeare: str) -> None:
    before = cut(shakespeare)
    after = cut(shakespeare + "\n\nMENENIUS:\nA new scene.\n" * 500)
    assert after[: len(before) - 1] == before[:-1]


@pytest.mark.parametrize("separator", ["\n\n", "\n"])
def test_an_edit_changes_only_the_passages_near_it(shakespeare: str, separator: str) -> None:
    text = shakespeare.replace("\n\n", separator)
    middle = text.index(separator, len(text) // 2)
    edited = text[:middle] + separator + "A line that was not there." + text[middle:]
    lost = set(cut(text)) - set(cut(edited))
    assert 1 <= len(lost) <= 4


def test_text_without_blank_lines_is_cut_at_line_ends(shakespeare: str) -> None:
    passages = cut(shakespeare.replace("\n\n", "\n"))
    assert all(passage.endswith("\n") for passage in passages)
    assert all(MIN_PASSAGE <= len(passage) <= MAX_PASSAGE for passage in passages[:-1])


def test_an_endless_line_is_cut_at_the_maximum_size() -> None:
    assert [len(passage) for passage in cut("a" * (3 * MAX_PASSAGE + 5))][:2] == [MAX_PASSAGE, MAX_PASSAGE]


def test_a_short_text_is_one_passage() -> None:
    assert cut("one\n\ntwo\n") == ["one\n\ntwo\n"]
    assert cut("") == []
