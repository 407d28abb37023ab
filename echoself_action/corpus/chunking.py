"""Cuts a long text into passages at paragraph boundaries, so that an edit moves only the passages near it.

Content-defined chunking: whether a passage ends after a paragraph is decided by a hash of that paragraph alone, besides
a least and a greatest size. Text before an edit is cut as it was, and so is text after it, from the first boundary on
that both versions share: passages keep their text, and with it their split, when a file is edited or appended to.
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

    `blocks` is the text in pieces of any size, with LF line ends; how it is cut into blocks makes no difference. A last
    passage, and one that stands before a unit too long to be added, may be shorter.
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
    # In proportion to the unit's length: passages are as long on average in verse as in essays.
    digest = hashlib.blake2b(unit.encode(), digest_size=8, person=b"echoself cut").digest()
    return int.from_bytes(digest) * _MEAN_BEYOND_MIN < len(unit) << 64


def _units(lines: Iterable[str]) -> Iterator[str]:
    """What is never cut: paragraphs, each with the blank lines after it; single lines where a paragraph is too long."""
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
    """Lines with their line ends; a line longer than a passage in pieces of that length."""
    rest = ""
    for block in blocks:
        text = rest + block
        end = text.rfind("\n") + 1
        for line in io.StringIO(text[:end], newline="\n"):  # finds line ends in C, and no others than LF
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
