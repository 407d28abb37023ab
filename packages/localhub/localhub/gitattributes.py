"""Patterns of .gitattributes and .gitignore: whether an uploaded file goes to LFS, and whether it is ignored."""

import re
from collections.abc import Sequence
from functools import lru_cache

# The initial .gitattributes of the Hub's repos: weights, archives and arrays go to LFS regardless of their size.
_LFS_PATTERNS = """
*.7z *.arrow *.bin *.bz2 *.ckpt *.ftz *.gguf *.gz *.h5 *.joblib *.lfs.* *.mlmodel *.model *.msgpack *.npy *.npz *.onnx
*.ot *.parquet *.pb *.pickle *.pkl *.pt *.pth *.rar *.safetensors saved_model/**/* *.tar.* *.tar *.tflite *.tgz *.wasm
*.xz *.zip *.zst *tfevents*
"""
INITIAL_GITATTRIBUTES = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in _LFS_PATTERNS.split())

# the Hub accepts larger files through LFS only
MAX_REGULAR_SIZE = 10 * 1024 * 1024


def goes_to_lfs(path: str, size: int, gitattributes: str) -> bool:
    """Whether a file of `size` bytes goes to LFS: it is large, or the last matching line sets `filter=lfs`."""
    if size > MAX_REGULAR_SIZE:
        return True
    decision = False
    for line in gitattributes.splitlines():
        pattern, *attributes = line.split()[:20] or [""]
        if not attributes or pattern.startswith("#"):
            continue
        filters = [word for word in attributes if word.lstrip("-!").partition("=")[0] == "filter"]
        if filters and _regex(pattern).fullmatch(path):
            decision = filters[-1] == "filter=lfs"
    return decision


def is_ignored(path: str, gitignore: str) -> bool:
    """Whether .gitignore's lines exclude a file; the last one that matches it, or a folder above it, decides."""
    parts = path.split("/")
    candidates = ["/".join(parts[: count + 1]) for count in range(len(parts))]
    ignored = False
    for raw in gitignore.splitlines():
        line = raw.rstrip()
        if not line or line.startswith("#"):
            continue
        negated = line.startswith("!")
        pattern = line.lstrip("!") if negated else line
        of_folders_only = pattern.endswith("/")
        names: Sequence[str] = candidates[:-1] if of_folders_only else candidates
        if any(_regex(pattern.rstrip("/")).fullmatch(name) for name in names):
            ignored = not negated
    return ignored


@lru_cache(maxsize=1024)
def _regex(pattern: str) -> re.Pattern[str]:
    """A pattern without a slash matches a name at any depth, one with a slash a path from the root."""
    anchored = "/" in pattern.rstrip("/")
    body = pattern.lstrip("/")
    prefix = "" if anchored else "(?:.*/)?"
    return re.compile(prefix + "".join(_translated(piece) for piece in _PIECE.findall(body)), re.DOTALL)


_PIECE = re.compile(r"\*\*/|/\*\*$|\*+|\?|\[[!^]?\]?[^\]]*\]|\\.|.", re.DOTALL)


def _translated(piece: str) -> str:
    if piece == "**/":
        return "(?:.*/)?"
    if piece == "/**":
        return "/.*"
    if piece.startswith("*"):
        return "[^/]*"
    if piece == "?":
        return "[^/]"
    if piece.startswith("[") and len(piece) > 2:
        inside = piece[1:-1].replace("\\", "\\\\").replace("[", "\\[")
        return f"[^{inside[1:]}]" if inside[0] in "!^" else f"[{inside}]"
    return re.escape(piece[1:] if piece.startswith("\\") and len(piece) > 1 else piece)
