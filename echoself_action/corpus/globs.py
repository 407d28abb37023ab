"""Finds the files of a corpus: globs in, a sorted list of files out."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path

from ..errors import InputError
from .findings import FileFindings, Report

# Third-party code, which `**` does not match.
_VENDORED = {"node_modules", "__pycache__"}
# Suffixes that are proposed if nothing was found, and how many files are looked at for that.
_TEXT_SUFFIXES = {".md", ".txt", ".rst", ".tex", ".org", ".adoc", ".html", ".py", ".ipynb", ".jsonl", ".csv", ".parquet"}
_LOOKED_AT = 10_000

_OUTSIDE, _BROKEN, _FOLDERS, _REPEATED, _CLOSED = (
    "links out of the workspace, not followed",
    "broken links",
    "links to folders, not followed",
    "links to files of the corpus, which are read once",
    "folders that can't be read",
)


def find_files(patterns: Sequence[str], root: Path, report: Report = lambda _: None) -> list[Path]:
    """The files under `root` that any of `patterns` matches, sorted, each once.

    `*`, `?` and `[...]` match within one name, `**` any number of folders. They do not match hidden names and
    `node_modules`, unless the pattern contains the name (`.github/**/*.md`). A name with brackets that exists is itself, not
    a pattern. A pattern that starts with `!` excludes files. An absolute pattern, or one with `..`, may match files outside
    `root`.

    Symbolic links are followed to files inside `root` (or inside the folder that such a pattern names), but not if the file
    itself is found too. Other links, and those to folders, are not followed. `report` is called with what was not followed.

    Raises InputError, with every pattern that matches no file.
    """
    patterns = _rejoined(patterns, root)
    search = _Search(root)
    found: set[Path] = set()
    problems: list[InputError] = []
    for pattern in patterns:
        if pattern.startswith("!"):
            continue
        matches = set(search.matches(pattern))
        if not matches:
            of_several = sum(not one.startswith("!") for one in patterns) > 1
            problems.append(_matched_nothing(pattern, root, of_several, search.not_followed))
        found |= matches
    if problems:
        raise InputError("Part of the corpus was not found. Nothing was read.", problems=problems)
    excluded = _Search(root)
    for pattern in patterns:
        if pattern.startswith("!"):
            found -= set(excluded.matches(pattern[1:]))
    search.report_to(report, excluded)
    if not found:
        raise InputError(
            f"The patterns {', '.join(patterns)} exclude every file. Nothing was read.",
            "Add a pattern that matches the text to train on.",
        )
    return _each_once(found, report)


def _rejoined(patterns: Sequence[str], root: Path) -> list[str]:
    """The patterns as they were meant: the parts of a name with commas, which separate patterns, are one if it exists."""
    joined: list[str] = []
    rest = list(patterns)
    while rest:
        pattern = rest.pop(0)
        for end in range(len(rest), 0, -1):
            names = [comma.join([pattern, *rest[:end]]) for comma in (",", ", ")]
            name = next((name for name in names if _is_file(root / name.removeprefix("!"))), None)
            if name and not _is_file(root / pattern.removeprefix("!")):
                pattern, rest = name, rest[end:]
                break
        joined.append(pattern)
    return joined


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # too long a name
        return False


def _matched_nothing(pattern: str, root: Path, of_several: bool, not_followed: list[str]) -> InputError:
    if (root / pattern).is_dir():
        return InputError(
            f"'{pattern}' is a folder.", f"Use '{pattern.rstrip('/')}/**/*.md', for example, for the files in it."
        )
    if not_followed:
        return InputError(
            f"'{pattern}' matches no file under {root}, only links that are not followed: {'; '.join(not_followed[:3])}.",
            "Copy the files into the workspace, or use the path of the file or folder itself as the pattern.",
        )
    hint = _what_there_is(root)
    if set(pattern) & set("{}"):
        hint = "Braces are not expanded: write each pattern in full, such as **/*.md, **/*.txt."
    elif of_several:
        hint += " Commas separate patterns: for a name with a comma, use ? in its place."
    return InputError(f"'{pattern}' matches no file under {root}.", hint)


def _what_there_is(root: Path) -> str:
    """Advice for a pattern that matches nothing: the kinds of files that are there."""
    suffixes = Counter(path.suffix for path in islice(_visible_files(root), _LOOKED_AT))
    if not suffixes:
        return (
            "The folder has no files. Change to the folder with the text; in a workflow, add actions/checkout before this step."
        )
    text = Counter({suffix: count for suffix, count in suffixes.items() if suffix in _TEXT_SUFFIXES})
    if not text:
        return "Check the spelling, and that the checkout contains the file. Hidden folders must be named explicitly."
    shown = ", ".join(f"{count:,} {suffix}" for suffix, count in text.most_common(3))
    patterns = ",".join(f"**/*{suffix}" for suffix, _ in text.most_common(3))
    return f"The folder has other text ({shown}): set data, such as {patterns}. Hidden folders must be named explicitly."


def _visible_files(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not _is_skipped(name)]
        yield from (Path(folder, name) for name in files if not name.startswith("."))


class _Search:
    """Finds the files of patterns, and counts what it does not follow. `not_followed` has the links of the last pattern."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._links: dict[Path, tuple[str, str]] = {}  # with the kind of finding and the example
        self._closed: list[OSError] = []
        self.not_followed: list[str] = []

    def matches(self, pattern: str) -> Iterator[Path]:
        self.not_followed = []
        root = self._root
        base, names = _literal_start(os.path.normpath(root / pattern))
        under_root = Path(os.path.normpath(base.absolute())).is_relative_to(os.path.normpath(root.absolute()))
        allowed = (root if under_root else base if names else base.parent).resolve()
        for path in self._walk(base, names, allowed) if names else [base]:
            if not _is_file(path):
                if path.is_symlink() and not path.is_dir():
                    self._skip(path, _BROKEN, f"{path.readlink()} (does not exist)")
            elif (target := path.resolve()).is_relative_to(allowed):
                yield path
            else:
                self._skip(path, _OUTSIDE, str(target))

    def report_to(self, report: Report, excluded: "_Search") -> None:
        """Report what was not followed, other than what `excluded` found too."""
        found = FileFindings("")
        for path, (kind, example) in self._links.items():
            if path not in excluded._links:
                found.add(kind, example, is_loss=kind != _FOLDERS)
        for error in self._closed:
            found.add(_CLOSED, f"{error.filename} ({error.strerror})")
        found.report_to(report)

    def _skip(self, path: Path, kind: str, target: str) -> None:
        self.not_followed.append(f"{path} -> {target}")
        self._links[path] = kind, self.not_followed[-1]

    def _walk(self, base: Path, names: tuple[str, ...], allowed: Path) -> Iterator[Path]:
        for folder, folders, files in os.walk(base, onerror=self._closed.append):
            # pruned here, so that a large .venv or node_modules takes no time
            folders[:] = [name for name in folders if not _is_skipped(name) or name in names]
            above = Path(folder).relative_to(base).parts
            for name in folders:
                path = Path(folder) / name
                if path.is_symlink() and _may_be_above((*above, name), names):
                    target = path.resolve()
                    self._skip(path, _FOLDERS if target.is_relative_to(allowed) else _OUTSIDE, str(target))
            for name in files:
                if match_parts((*above, name), names):
                    yield Path(folder) / name


def _each_once(found: set[Path], report: Report) -> list[Path]:
    """The files, sorted, without the links to other ones of them."""
    by_target: dict[Path, list[Path]] = {}
    for path in sorted(found, key=lambda path: (path.is_symlink(), path)):
        by_target.setdefault(path.resolve(), []).append(path)
    repeated = FileFindings("")
    for first, *others in by_target.values():
        for path in others:
            repeated.add(_REPEATED, f"{path} -> {first}", is_loss=False)
    repeated.report_to(report)
    return sorted(first for first, *_ in by_target.values())


def _literal_start(pattern: str) -> tuple[Path, tuple[str, ...]]:
    """The literal part of a pattern, a folder or file, and the names from the first wildcard on."""
    parts = Path(pattern).parts
    end = 0
    while end < len(parts) and (not set(parts[end]) & set("*?[") or _is_name(Path(*parts[: end + 1]))):
        end += 1
    return Path(*parts[:end]), parts[end:]


def _is_name(path: Path) -> bool:
    """Whether a name with brackets, such as `[id].tsx`, is that of an existing file or folder, and not a pattern."""
    return "[" in path.name and os.path.lexists(path)


def _may_be_above(parts: tuple[str, ...], names: tuple[str, ...]) -> bool:
    """Whether a pattern could match files below a folder."""
    if "**" in names[: len(parts)]:
        return True
    return len(parts) < len(names) and all(map(_match_name, parts, names))


def match_parts(parts: tuple[str, ...], names: tuple[str, ...]) -> bool:
    """Whether a path with these parts matches a pattern with these names."""
    if not names:
        return not parts
    if not parts:
        return False
    name, rest = names[0], names[1:]
    if name == "**":
        below = not _is_skipped(parts[0]) and (match_parts(parts[1:], names) or (not rest and len(parts) == 1))
        return below or (bool(rest) and match_parts(parts, rest))
    if _is_skipped(parts[0]) and name != parts[0] and not name.startswith("."):
        return False
    return _match_name(parts[0], name) and match_parts(parts[1:], rest)


def _match_name(part: str, name: str) -> bool:
    return part == name or fnmatchcase(part, name)


def _is_skipped(name: str) -> bool:
    return name.startswith(".") or name in _VENDORED
