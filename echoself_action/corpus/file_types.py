"""What a file of a corpus is: its format, by its name; and what is no text at all, by its first bytes or its name."""

import re
from pathlib import Path
from typing import Literal

Kind = Literal["text", "notebook", "jsonl", "json", "table", "parquet"]
Compression = Literal["gzip", "bzip2", "xz", "zstd"]

HEAD = 1024  # bytes that show what a file is
POINTER_HINT = "Check out the files themselves: `lfs: true` under `with:` of actions/checkout, or `git lfs pull`."
IS_POINTER = "is a Git LFS pointer, not the file itself: check it out with `lfs: true`"

_KINDS: dict[str, Kind] = {
    ".ipynb": "notebook",
    ".jsonl": "jsonl",
    ".jsonlines": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "table",
    ".tsv": "table",
    ".parquet": "parquet",
}
_COMPRESSIONS: dict[str, Compression] = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd", ".zstd": "zstd"}

# https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
_POINTER = re.compile(
    rb"version https?://(?:git-lfs\.github\.com|hawser\.github\.com|git-media\.io)/spec/\w+\r?\n"
    rb"(?:[a-z0-9.-]+ [^\n]*\n)*?oid sha256:[0-9a-f]{64}\r?\n(?:[a-z0-9.-]+ [^\n]*\n)*?size [0-9]+\s*"
)
_ANNEX_POINTER = re.compile(rb"/annex/objects/[^\n]+\s*")

# Offset, first bytes, and what they begin.
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"{\\rtf", "an RTF document"),
    (0, b"%!PS", "a PostScript document"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Microsoft Office document"),
    (0, b"PK\x03\x04", "a ZIP archive, or a document stored in one, such as DOCX"),
    (0, b"PK\x05\x06", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip file"),
    (0, b"BZh", "a bzip2 file"),
    (0, b"\xfd7zXZ\0", "an xz file"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard file"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"Rar!\x1a\x07", "a RAR archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"GIF87a", "a GIF image"),
    (0, b"GIF89a", "a GIF image"),
    (0, b"RIFF", "a WebP, WAV or AVI file"),
    (0, b"ID3", "an MP3 file"),
    (0, b"OggS", "an Ogg file"),
    (0, b"fLaC", "a FLAC file"),
    (4, b"ftyp", "an MP4 file"),
    (0, b"wOFF", "a font"),
    (0, b"wOF2", "a font"),
    (0, b"\x7fELF", "a program"),
    (0, b"SQLite format 3\0", "an SQLite database"),
    (0, b"PAR1", "a Parquet file"),
    (0, b"ARROW1\0", "an Arrow file"),
    (0, b"\x89HDF\r\n", "an HDF5 file"),
    (0, b"\x93NUMPY", "a NumPy array"),
    *((0, b"\x80%c" % version, "a pickle") for version in range(2, 6)),
)
# Names that no text has, whatever the content is.
_NAMES = {
    ".pdf": "a PDF document",
    ".docx": "a Microsoft Word document",
    ".xlsx": "a Microsoft Excel document",
    ".pptx": "a Microsoft PowerPoint document",
    ".odt": "an OpenDocument text",
    ".ods": "an OpenDocument spreadsheet",
    ".epub": "an EPUB book",
    ".png": "a PNG image",
    ".jpg": "a JPEG image",
    ".jpeg": "a JPEG image",
    ".gif": "a GIF image",
    ".webp": "a WebP image",
    ".zip": "a ZIP archive",
    ".tgz": "a tar archive",
    ".7z": "a 7z archive",
    ".rar": "a RAR archive",
}
_MIGHT_BE_TEXT = (b"BZh", b"RIFF", b"ID3", b"OggS", b"PAR1", b"fLaC", b"wOFF", b"wOF2", b"ftyp", b"ustar")


def kind_of(path: Path) -> Kind:
    """The format of a file, by its suffix; of a compressed file, that of its content."""
    return _KINDS.get(_uncompressed(path).suffix.lower(), "text")


def is_passages(path: Path) -> bool:
    """Whether the documents of a file are the passages of its text, and not its records."""
    return kind_of(path) in ("text", "notebook")


def has_tabs(path: Path) -> bool:
    """Whether a table has tabs between its cells, whatever its first line is."""
    return _uncompressed(path).suffix.lower() == ".tsv"


def compression_of(path: Path) -> Compression | None:
    """The compression of a file, by its suffix."""
    return _COMPRESSIONS.get(path.suffix.lower())


def is_pointer(path: Path) -> bool:
    """Whether a file is what Git LFS has in its place. Raises OSError if it can't be read."""
    with path.open("rb") as file:
        return is_pointer_text(file.read(HEAD + 1))


def is_pointer_text(head: bytes) -> bool:
    """Whether `head`, more than HEAD bytes or a whole file, is a pointer of Git LFS. Pointers have less than 1,024 bytes."""
    return len(head) < HEAD and bool(_POINTER.fullmatch(head))


def is_annex_pointer(head: bytes) -> bool:
    """Whether `head`, more than HEAD bytes or a whole file, is a pointer of git-annex."""
    return len(head) < HEAD and bool(_ANNEX_POINTER.fullmatch(head))


def foreign_type(path: Path, head: bytes) -> str | None:
    """What a file is that has no text to learn, such as "a PDF document", by its first bytes and its name; None for others."""
    if b"%PDF-" in head[:HEAD] and (head.startswith(b"%PDF-") or b"\0" in head or not _is_text(head)):
        return "a PDF document"
    for offset, signature, what in _SIGNATURES:
        if head.startswith(signature, offset) and not (signature in _MIGHT_BE_TEXT and _is_text(head)):
            return what
    return _NAMES.get(_uncompressed(path).suffix.lower())


def _is_text(head: bytes) -> bool:
    """Whether the bytes are UTF-8 without control characters, but for a character that is cut at their end."""
    text = head.decode("utf-8", "ignore")
    return len(head) - len(text.encode()) <= 3 and not any(
        character < " " and character not in "\t\n\v\f\r\x1b" for character in text
    )


def _uncompressed(path: Path) -> Path:
    return path.with_suffix("") if compression_of(path) and path.stem else path
