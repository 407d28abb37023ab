"""Finds the files of a corpus: globs in, a sorted list of files out."""

import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from ..errors import InputError

# Third-party code, which `**` does not match.
_VENDORED = {"node_modules", "__pycache__"}


def find_files(patterns: Sequence[str], root: Path) -> list[Path]:
    """The files under `root` that any of `patterns` matches, sorted, each once.

    `*`, `?` and `[...]` match within one name, `**` any number of folders. They do not match hidden names and
    `node_modules`, unless the pattern contains the name (`.github/**/*.md`). A pattern that starts with `!` excludes files.
    An absolute pattern, or one with `..`, may match files outside `root`. Symbolic links are followed to files inside `root`
    (or inside the folder that such a pattern names) and skipped otherwise; links to folders are not followed.

    Raises InputError, with every pattern that matches no file.
    """
    found: set[Path] = set()
    problems: list[InputError] = []
    for pattern in patterns:
        if pattern.startswith("!"):
            continue
        matches = set(_matches(pattern, root))
        if not matches:
            problems.append(_matched_nothing(pattern, root))
        found |= matches
    if problems:
        raise InputError("Part of the corpus was not found. Nothing was read.", problems=problems)
    for pattern in patterns:
        if pattern.startswith("!"):
            found -= set(_matches(pattern[1:], root))
    if not found:
        raise InputError(
            f"The patterns {', '.join(patterns)} exclude every file. Nothing was read.",
            "Add a pattern that matches the text to train on.",
        )
    return sorted(found)


def _matched_nothing(pattern: str, root: Path) -> InputError:
    if (root / pattern).is_dir():
        return InputError(
            f"'{pattern}' is a folder.", f"Use '{pattern.rstrip('/')}/**/*.md', for example, for the files in it."
        )
    return InputError(
        f"'{pattern}' matches no file under {root}.",
        "Check the spelling, and that the checkout contains the file. Hidden folders must be named explicitly.",
    )


def _matches(pattern: str, root: Path) -> Iterator[Path]:
    base, names = _literal_start(os.path.normpath(root / pattern))
    under_root = Path(os.path.normpath(base.absolute())).is_relative_to(os.path.normpath(root.absolute()))
    allowed = (root if under_root else base if names else base.parent).resolve()
    for path in _walk(base, names) if names else [base]:
        if path.is_file() and path.resolve().is_relative_to(allowed):
            yield path


def _literal_start(pattern: str) -> tuple[Path, tuple[str, ...]]:
    """The literal part of a pattern, a folder or file, and the names from the first wildcard on."""
    parts = Path(pattern).parts
    literal = next((i for i, part in enumerate(parts) if any(sign in part for sign in "*?[")), len(parts))
    return Path(*parts[:literal]), parts[literal:]


def _walk(base: Path, names: tuple[str, ...]) -> Iterator[Path]:
    for folder, folders, files in os.walk(base):
        # pruned here, so that a large .venv or node_modules takes no time
        folders[:] = [name for name in folders if not _is_skipped(name) or name in names]
        above = Path(folder).relative_to(base).parts
        for name in files:
            if _match((*above, name), names):
                yield Path(folder) / name


def _match(parts: tuple[str, ...], names: tuple[str, ...]) -> bool:
    if not names:
        return not parts
    if not parts:
        return False
    name, rest = names[0], names[1:]
    if name == "**":
        below = not _is_skipped(parts[0]) and (_match(parts[1:], names) or (not rest and len(parts) == 1))
        return below or (bool(rest) and _match(parts, rest))
    if _is_skipped(parts[0]) and name != parts[0] and not name.startswith("."):
        return False
    return fnmatchcase(parts[0], name) and _match(parts[1:], rest)


def _is_skipped(name: str) -> bool:
    return name.startswith(".") or name in _VENDORED
