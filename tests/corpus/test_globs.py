import os
from pathlib import Path

import pytest

from echoself_action.corpus.globs import find_files
from echoself_action.errors import InputError

FILES = [
    "README.md",
    "docs/a.md",
    "docs/deep/b.md",
    "docs/c.txt",
    ".github/ISSUE.md",
    ".venv/lib/x.md",
    "node_modules/p/README.md",
    "docs/.cache/y.md",
    "docs/.hidden.md",
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "repo"
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def names(files: list[Path], root: Path) -> list[str]:
    return [str(file.relative_to(root)) for file in files]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["**/*.md"], ["README.md", "docs/a.md", "docs/deep/b.md"]),
        (["*.md"], ["README.md"]),
        (["docs/*"], ["docs/a.md", "docs/c.txt"]),
        (["docs/**"], ["docs/a.md", "docs/c.txt", "docs/deep/b.md"]),
        (["docs/**/b.md"], ["docs/deep/b.md"]),
        (["**/deep/*.md"], ["docs/deep/b.md"]),
        (["docs/[ac].*"], ["docs/a.md", "docs/c.txt"]),
        (["docs/?.md", "./docs/a.md", "**/a.md"], ["docs/a.md"]),
        ([".github/**/*.md"], [".github/ISSUE.md"]),
        (["docs/.hidden.md"], ["docs/.hidden.md"]),
        (["node_modules/*/*.md"], ["node_modules/p/README.md"]),
        (["**/*.md", "!docs/**"], ["README.md"]),
    ],
)
def test_patterns_find_sorted_files_once(root: Path, patterns: list[str], expected: list[str]) -> None:
    assert names(find_files(patterns, root), root) == expected


def test_a_pattern_may_name_a_folder_outside_of_the_root(root: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    text = tmp_path / "elsewhere/text.txt"
    text.write_text("text")
    assert find_files([str(tmp_path / "elsewhere/*.txt")], root) == [text]
    assert find_files(["../elsewhere/text.txt"], root) == [text]


def test_all_patterns_without_a_match_are_reported_together(root: Path) -> None:
    with pytest.raises(InputError) as caught:
        find_files(["**/*.md", "nothing/*.md", "*.parquet", "docs"], root)
    message = str(caught.value)
    assert "'nothing/*.md'" in message
    assert "'*.parquet'" in message
    assert "'docs' is a folder" in message
    assert "'**/*.md'" not in message


def test_excluding_every_file_is_an_error(root: Path) -> None:
    with pytest.raises(InputError, match="exclude every file"):
        find_files(["*.md", "!**/*.md"], root)


def test_links_are_followed_inside_the_root_only(root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.md").write_text("secret")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/key.md").write_text("secret")
    (root / "out.md").symlink_to(tmp_path / "secret.md")
    (root / "folder").symlink_to(tmp_path / "secrets")
    (root / "in.md").symlink_to(root / "docs/a.md")
    (root / "loop").symlink_to(root)
    assert names(find_files(["**/*.md"], root), root) == ["README.md", "docs/a.md", "docs/deep/b.md"]
    assert names(find_files(["in.md"], root), root) == ["in.md"]
    for pattern in ["out.md", "folder/key.md", "folder/*.md"]:
        with pytest.raises(InputError, match="matches no file"):
            find_files([pattern], root)


def test_a_relative_root_gives_the_same_files(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    found = find_files(["**/*.md"], Path())
    assert [os.fspath(file) for file in found] == ["README.md", "docs/a.md", "docs/deep/b.md"]
