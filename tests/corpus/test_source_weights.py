"""Weights of files by globs: the first that matches applies, and a glob that matches nothing is known."""

from pathlib import Path

import pytest

from echoself_action.corpus.source_weights import hidden_globs, source_name, source_weights, unmatched

HUB = "hf://datasets/me/words"
NAMES = ["docs/a.md", "docs/deep/b.md", "docs/.hidden/c.md", "chats/day 1.jsonl", f"{HUB}/data/train.parquet", "/else/d.txt"]


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([], [1, 1, 1, 1, 1, 1]),
        ([("docs/**", 2)], [2, 2, 1, 1, 1, 1]),
        ([("./docs/*.md", 2), ("docs/**", 3)], [2, 3, 1, 1, 1, 1]),
        ([("docs/**", 3), ("docs/*.md", 2)], [3, 3, 1, 1, 1, 1]),
        ([("docs/.hidden/*", 0), ("chats/*.jsonl", 0.5)], [1, 1, 0, 0.5, 1, 1]),
        ([(HUB, 4), ("/else/*", 5)], [1, 1, 1, 1, 4, 5]),
        ([(f"{HUB}@v1/data/*.parquet", 4), ("../**/d.txt", 5)], [1, 1, 1, 1, 4, 1]),
        ([("hf://datasets/me/word", 4), (f"{HUB}/*", 4)], [1, 1, 1, 1, 1, 1]),
    ],
    ids=str,
)
def test_the_first_glob_that_matches_a_file_applies(weights: list[tuple[str, float]], expected: list[float]) -> None:
    assert source_weights(NAMES, weights) == expected


def test_globs_without_a_file_and_without_effect_are_known() -> None:
    weights = [("docs/**", 2.0), ("docs/a.md", 3.0), ("doc/**", 1.0), ("chats/*", 1.0)]
    assert unmatched(NAMES, weights) == ["doc/**"]
    assert hidden_globs(NAMES, weights) == ["docs/a.md"]


def test_a_file_is_named_by_its_path_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert source_name(Path("a/../b.md")) == source_name(tmp_path / "here/b.md") == "b.md"
    assert source_name(tmp_path / "c.md") == source_name(Path("../c.md")) == str(tmp_path / "c.md")
    assert source_weights([str(tmp_path / "c.md"), "b.md"], [("../*.md", 2), (f"{tmp_path}/here/*", 3)]) == [2, 3]
