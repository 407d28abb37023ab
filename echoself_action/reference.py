"""The inputs and outputs as Markdown tables: `python -m echoself_action.reference README.md` writes them into a file.

A table goes between the lines `<!-- inputs -->` and `<!-- /inputs -->` (and `outputs` likewise).
"""

import sys
from dataclasses import fields
from pathlib import Path

from .inputs import MODES, Inputs, Outputs, modes_of, shown_default


def inputs_table() -> str:
    """Every input: its name, the modes that have it, its help and its default."""
    rows = ["| input | modes | meaning | default |", "|---|---|---|---|"]
    for name, declared in Inputs.model_fields.items():
        modes = modes_of(name)
        where = "all" if len(modes) == len(MODES) else ", ".join(modes)
        default = shown_default(name)
        rows.append(f"| `{name}` | {where} | {declared.description} | {_default(default)} |")
    return "\n".join(rows)


def outputs_table() -> str:
    """Every output: its name and its help."""
    rows = ["| output | meaning |", "|---|---|"]
    rows += [f"| `{output.name}` | {output.metadata['help']} |" for output in fields(Outputs)]
    return "\n".join(rows)


def with_tables(text: str) -> str:
    """`text` with its tables written anew."""
    for name, table in (("inputs", inputs_table()), ("outputs", outputs_table())):
        before, opening, rest = text.partition(f"<!-- {name} -->\n")
        _, closing, after = rest.partition(f"<!-- /{name} -->")
        if opening and closing:
            text = f"{before}{opening}{table}\n{closing}{after}"
    return text


def _default(shown: str) -> str:
    return shown if not shown or " " in shown or shown in ("required", "preset") else f"`{shown}`"


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        path.write_text(with_tables(path.read_text(encoding="utf-8")), encoding="utf-8")
