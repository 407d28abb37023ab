"""Cuts a long text into passages at paragraph boundaries, so that an edit changes only the passages near it.

Content-defined chunking: whether a passage ends after a paragraph depends on a hash of that paragraph alone, within a minimum
and a maximum size. After an edit, the passages before it are the same, and so are those after the next boundary that both
versions share: passages keep their text, and with it their split, when a file is edited or appended to.
See Muthitacharoen et al., "A Low-bandwidth Network File System" (SOSP 2001), which cuts files this way.
"""

import hashlib
import io
from collections.abc import Iterable, Iterator

# All in characters.
MIN_PASSAGE = 2_048
MAX_PASSAGE = 16_384
_MEAN_BEYOND_MIN = 4_096


def cut_passages(blocks: Iterable[str]) -> Iterator[str]:
    """Passages of `MIN_PASSAGE` to `MAX_PASSAGE` characters, about 6,000 on average; joined, they are the text again.

    `blocks` is the text in pieces of any size, with LF line ends; their sizes do not affect the result. The last passage, and
    one before a unit that is too long to be added, may be shorter.
    """
    parts: list[str] = []
    size = 0
    for unit in _units(_lines(blocks)):
        if size + len(unit) > MAX_PASSAGE:
            yield "".join(parts)
            parts, size = [], 0
        parts.append(unit)
        size += len(unit)
        if size >= MIN_PASSAGE and _is_boundary(unit):
            yield "".join(parts)
            parts, size = [], 0
    if parts:
        yield "".join(parts)


def _is_boundary(unit: str) -> bool:
    # proportional to the length of the unit, so that the mean passage length does not depend on that of paragraphs
    digest = hashlib.blake2b(unit.encode(), digest_size=8, person=b"echoself cut").digest()
    return int.from_bytes(digest) * _MEAN_BEYOND_MIN < len(unit) << 64


def _units(lines: Iterable[str]) -> Iterator[str]:
    """Units that are not cut: paragraphs, each with the blank lines after it; single lines if a paragraph is too long."""
    paragraph: list[str] = []
    size = 0
    too_long = False
    blank = False
    for line in lines:
        if blank and not line.isspace():
            if paragraph:
                yield "".join(paragraph)
            paragraph, size, too_long = [], 0, False
        blank = line.isspace()
        size += len(line)
        if not too_long and size <= MAX_PASSAGE:
            paragraph.append(line)
            continue
        yield from paragraph
        yield line
        paragraph, too_long = [], True
    if paragraph:
        yield "".join(paragraph)


def _lines(blocks: Iterable[str]) -> Iterator[str]:
    """Lines with their line ends; a line longer than MAX_PASSAGE in pieces of that length."""
    rest = ""
    for block in blocks:
        text = rest + block
        end = text.rfind("\n") + 1
        for line in io.StringIO(text[:end], newline="\n"):  # splits in C, and at LF only
            if len(line) <= MAX_PASSAGE:
                yield line
            else:
                yield from _pieces(line)
        whole = end + (len(text) - end) // MAX_PASSAGE * MAX_PASSAGE
        yield from _pieces(text[end:whole])
        rest = text[whole:]
    yield from _pieces(rest)


def _pieces(line: str) -> Iterator[str]:
    for start in range(0, len(line), MAX_PASSAGE):
        yield line[start : start + MAX_PASSAGE]
