"""A Jupyter notebook -> its text: the source of its cells, Markdown and code, in order, with a blank line between them."""

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Notebook:
    """`outputs` and `attachments` are numbers of what is not in the text."""

    text: str
    outputs: int
    attachments: int


def read_notebook(content: bytes) -> Notebook:
    """The text of a notebook of any nbformat version. Raises ValueError if it is not one; the message follows the path."""
    try:
        notebook = json.loads(content.decode())
    except UnicodeDecodeError as error:
        raise ValueError(f" is not UTF-8 (byte 0x{error.object[error.start]:02x})") from None
    except json.JSONDecodeError as error:
        raise ValueError(f", line {error.lineno} is invalid JSON ({error.msg})") from None
    except RecursionError:
        raise ValueError(" is JSON nested too deeply") from None
    cells = list(_cells(notebook))
    try:
        sources = [_source(cell) for cell in cells]
        text = "\n\n".join(source for source in sources if source.strip())
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(" has an unpaired surrogate (\\ud800 to \\udfff) in a cell") from None
    outputs = sum(len(cell["outputs"]) for cell in cells if isinstance(cell.get("outputs"), list))
    attachments = sum(len(cell["attachments"]) for cell in cells if isinstance(cell.get("attachments"), dict))
    return Notebook(text.replace("\r\n", "\n"), outputs, attachments)


def _cells(notebook: Any) -> list[dict[str, Any]]:
    """nbformat 4 has `cells`, older versions have them in `worksheets`."""
    sheets = notebook.get("worksheets", [notebook]) if isinstance(notebook, dict) else None
    lists = [sheet.get("cells") if isinstance(sheet, dict) else None for sheet in sheets] if isinstance(sheets, list) else []
    found = [cell for cells in lists if isinstance(cells, list) for cell in cells]
    if not all(isinstance(one, list) for one in lists) or not lists or not all(isinstance(cell, dict) for cell in found):
        raise ValueError(" is not a notebook (it has no `cells`)")
    return found


def _source(cell: dict[str, Any]) -> str:
    source = cell.get("source", cell.get("input", ""))  # nbformat 3 calls that of a code cell `input`
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        source = "".join(source)
    if not isinstance(source, str):
        raise ValueError(" is not a notebook (the source of a cell is not text)")
    level = cell.get("level")
    return (
        f"{'#' * level} {source}" if cell.get("cell_type") == "heading" and isinstance(level, int) and 0 < level < 7 else source
    )
