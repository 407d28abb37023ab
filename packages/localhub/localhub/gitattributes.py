"""Patterns of .gitattributes and .gitignore: whether an uploaded file goes to LFS, and whether it is ignored.

Uploaders write the patterns, so a match must not take exponential time. Git's own matcher backtracks, and so do the
regular expressions of the pathspec library; here, a name is matched by a regular expression that can't (see `_regex`), and
folders one by one. `Patterns` also limits the time for a whole request.
"""

import heapq
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter

from .refusal import bad_request

# The initial .gitattributes of the Hub's repos: weights, archives and arrays go to LFS regardless of their size.
_LFS_PATTERNS = """
*.7z *.arrow *.bin *.bz2 *.ckpt *.ftz *.gguf *.gz *.h5 *.joblib *.lfs.* *.mlmodel *.model *.msgpack *.npy *.npz *.onnx
*.ot *.parquet *.pb *.pickle *.pkl *.pt *.pth *.rar *.safetensors saved_model/**/* *.tar.* *.tar *.tflite *.tgz *.wasm
*.xz *.zip *.zst *tfevents*
"""
INITIAL_GITATTRIBUTES = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in _LFS_PATTERNS.split())

# the Hub accepts larger files through LFS only
MAX_REGULAR_SIZE = 10 * 1024 * 1024
MAX_LINE = 2048  # characters; git ignores longer lines too
MAX_TEXT = 512 * 1024  # characters of one file of patterns
SECONDS = 0.5  # of CPU time, for the patterns of one request

# the names from a path's first to its last: a regular expression, a name without wildcards, or None for `**`
_Folders = tuple[re.Pattern[str] | str | None, ...]


@dataclass(frozen=True)
class _Rule:
    """One line. `sets`: that matching files go to LFS, or are ignored; else that they don't, or aren't."""

    folders: _Folders
    sets: bool
    of_folders_only: bool = False


class _Rules:
    """The rules of a file, the last line first, because the last one that matches decides.

    One whose last name has no wildcard is found by that name: `git lfs track` writes such a line for each large file.
    """

    def __init__(self, rules: Iterable[_Rule]) -> None:
        self._by_name: dict[str, list[tuple[int, _Rule]]] = {}
        self._others: list[tuple[int, _Rule]] = []
        for numbered in enumerate(rules):
            name = numbered[1].folders[-1]
            (self._by_name.setdefault(name, []) if isinstance(name, str) else self._others).append(numbered)

    def for_name(self, name: str) -> Iterable[tuple[int, _Rule]]:
        """Those that can match a path with this last name, in their order."""
        named = self._by_name.get(name)
        return heapq.merge(named, self._others, key=itemgetter(0)) if named else self._others


class Patterns:
    """The patterns of one .gitattributes and one .gitignore, for the files of one request. For use in one thread.

    All methods raise Refusal (400) if the patterns are too many for the time limit.
    """

    def __init__(self, gitattributes: str, gitignore: str, seconds: float = SECONDS) -> None:
        self._deadline = time.thread_time() + seconds
        self._attributes = self._rules(gitattributes, _attribute)
        self._ignored = self._rules(gitignore, _ignore)

    def goes_to_lfs(self, path: str, size: int) -> bool:
        """Whether a file of `size` bytes goes to LFS: it is large, or the last matching line sets `filter=lfs`."""
        if size > MAX_REGULAR_SIZE:
            return True
        rule = self._last_match(self._attributes, path.split("/"), is_folder=False)
        return rule is not None and rule.sets

    def is_ignored(self, path: str) -> bool:
        """Whether .gitignore excludes a file. A file in an excluded folder can't be included again, as in git."""
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            rule = self._last_match(self._ignored, parts[:depth], is_folder=depth < len(parts))
            if rule is not None and rule.sets:
                return True
        return False

    def _rules(self, text: str, parse: Callable[[str], _Rule | None]) -> _Rules:
        if len(text) > MAX_TEXT:
            raise bad_request(f".gitattributes and .gitignore may have at most {MAX_TEXT} characters each")
        rules = []
        for line in reversed(text.split("\n")):
            self._check_time()
            if len(line) <= MAX_LINE and (rule := parse(line)) is not None:
                rules.append(rule)
        return _Rules(rules)

    def _last_match(self, rules: _Rules, parts: Sequence[str], is_folder: bool) -> _Rule | None:
        for _, rule in rules.for_name(parts[-1]):
            self._check_time()
            if (is_folder or not rule.of_folders_only) and _match(rule.folders, parts):
                return rule
        return None

    def _check_time(self) -> None:
        if time.thread_time() > self._deadline:
            raise bad_request("The patterns of .gitattributes and .gitignore take too long for this many files: use fewer")


def _attribute(line: str) -> _Rule | None:
    """None for a line about other attributes than `filter`, and for a pattern that matches no file."""
    pattern, *attributes = line.split()[:20] or [""]
    filters = [word for word in attributes if word.lstrip("-!").partition("=")[0] == "filter"]
    if not filters or pattern.startswith(("#", "!", "[attr]")) or pattern.endswith("/"):
        return None
    return _Rule(_folders(pattern), filters[-1] == "filter=lfs")


def _ignore(line: str) -> _Rule | None:
    pattern = line.rstrip()
    negated, of_folders_only = pattern.startswith("!"), pattern.endswith("/")
    pattern = pattern.removeprefix("!").rstrip("/")
    if not pattern or pattern.startswith("#"):
        return None
    return _Rule(_folders(pattern), not negated, of_folders_only)


def _folders(pattern: str) -> _Folders:
    """A pattern without a slash matches a name at any depth, one with a slash a path from the root."""
    if "/" not in pattern:
        return (None, _name(pattern))
    names = pattern.removeprefix("/").split("/")
    if names[-1] == "**":
        names.append("*")  # what is below, not the folder itself
    return tuple(None if name == "**" else _name(name) for name in names)


def _match(folders: _Folders, parts: Sequence[str]) -> bool:
    """Whether the names match from first to last. After a mismatch, only the last `**` takes one folder more: an earlier
    one need not, so the time is at most the product of both lengths."""
    at = part = after_stars = taken = 0
    while part < len(parts):
        name = folders[at] if at < len(folders) else _NOTHING
        if name is None:
            at, after_stars, taken = at + 1, at + 1, part
        elif name == parts[part] if isinstance(name, str) else name.fullmatch(parts[part]):
            at, part = at + 1, part + 1
        elif after_stars:
            taken += 1
            at, part = after_stars, taken
        else:
            return False
    return all(name is None for name in folders[at:])


_PIECE = re.compile(r"\*+|\[[!^]?\]?(?:\[:[a-z]+:\]|\\.|[^\]\\])*\]|\\?.", re.DOTALL)
_NOTHING = re.compile("(?!)")
_CLASSES = {
    "alnum": "a-zA-Z0-9",
    "alpha": "a-zA-Z",
    "blank": " \\t",
    "digit": "0-9",
    "lower": "a-z",
    "punct": r"!-/:-@\[-`{-~",
    "space": " \\t\\n\\r\\f\\v",
    "upper": "A-Z",
    "xdigit": "0-9a-fA-F",
}


def _name(pattern: str) -> re.Pattern[str] | str:
    """The pattern of one name."""
    return _regex(pattern) if any(sign in pattern for sign in "*?[\\") else pattern


@lru_cache(maxsize=1024)
def _regex(pattern: str) -> re.Pattern[str]:
    """What follows a `*` is matched at the first place where it fits, in an atomic group: a later place is never better, so
    nothing has to be tried again."""
    runs = [""]
    for piece in _PIECE.findall(pattern):
        if piece.startswith("*"):
            runs.append("")
        else:
            runs[-1] += _character(piece)
    first, *rest = runs
    last = ".*" + rest.pop() if rest else ""
    try:
        return re.compile(first + "".join(f"(?>.*?{run})" for run in rest) + last, re.DOTALL)
    except re.error:  # such as [z-a]
        return _NOTHING


def _character(piece: str) -> str:
    if piece == "?":
        return "."
    if not piece.startswith("["):
        return re.escape(piece[1:] if piece.startswith("\\") and len(piece) > 1 else piece)
    inside = piece[1:-1]
    negation = "^" if inside[:1] in ("!", "^") else ""
    members = re.findall(r"\[:([a-z]+):\]|\\?(.)", inside[len(negation) :], re.DOTALL)
    if not members:  # the bracket is not closed
        return _NOTHING.pattern
    last = len(members) - 1
    texts = [
        _CLASSES.get(name, "") if name else "-" if one == "-" and 0 < at < last else re.escape(one)
        for at, (name, one) in enumerate(members)
    ]
    return f"[{negation}{''.join(texts)}]"
