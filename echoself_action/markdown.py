"""Markdown for cards, comments and job summaries: text from a corpus, a model or an input can't break out of its place."""

import re
import textwrap
from collections.abc import Iterable, Sequence

_SPECIAL = re.compile(r"[\\`*\[\]<>|~$&]|(?<!\w)_|_(?!\w)")
_BLOCK = re.compile(r"(#|[-+=](?=\s|[-=]|$)|\d{1,9}[.)](?=\s|$))")


def code(text: object) -> str:
    """Inline code on one line, which no text can end, nor the cell of a table that it is in."""
    return "`" + " ".join(str(text).split()).replace("`", "'").replace("|", "\\|") + "`"


def escaped(text: str) -> str:
    """Text of a table's cell, in which nothing is Markdown or HTML."""
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>|" else letter for letter in text)


def prose(text: str, is_start: bool = True) -> str:
    """Text on one line in which nothing is Markdown or HTML, but in which names_like_this stay as they are.

    `is_start`: a line begins with it, where a mark such as `-` would begin a list.
    """
    line = _SPECIAL.sub(lambda found: f"\\{found[0]}", " ".join(text.split()) if is_start else text)
    if is_start and (found := _BLOCK.match(line)):
        return f"{found[0][:-1]}\\{line[found.end() - 1 :]}"
    return line


def indented(text: str) -> str:
    """An indented code block, which no text can end. Every character that Unicode counts as a line end makes a new line."""
    return "\n".join(f"    {line}" for line in text.splitlines() or [""])


def wrapped(text: str, width: int = 90) -> str:
    """`text` with lines of at most `width` characters, broken at spaces: a code block does not wrap its lines."""
    lines = (textwrap.wrap(line, width, replace_whitespace=False) or [""] for line in text.splitlines())
    return "\n".join(part for parts in lines for part in parts)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; white space in a cell is collapsed, so that each row is one line."""
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    lines += [f"| {' | '.join(' '.join(cell.split()) for cell in row)} |" for row in rows]
    return "\n".join(lines)


def counted(count: int, noun: str) -> str:
    """`1 file`, `2,000 files`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def number(value: float | None, digits: int = 4) -> str:
    """A number with thousands separators; "" for None."""
    return "" if value is None else f"{value:,.{digits}f}"


def percent(share: float | None) -> str:
    """A share as `61.2%`; "" for None."""
    return "" if share is None else f"{share:.1%}"


def duration(seconds: float | None) -> str:
    """A time, in seconds or minutes; "" for None."""
    return "" if seconds is None else f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:,.1f} min"
