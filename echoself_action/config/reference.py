"""Generate the reference of the inputs and outputs: Markdown tables, the two blocks of action.yml, and the JSON schema.

`python -m echoself_action.config.reference FILE ...` writes them into the files, each between the lines `<!-- inputs -->` and
`<!-- /inputs -->`, in YAML `# inputs` and `# /inputs` (also for `settings` and `outputs`). A .json file gets the schema.
"""

import json
import sys
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

from ..input_field import GROUPS, MODES, declared
from .inputs import ACTION_INPUTS, Inputs, help_with_default, modes_of, shown_default
from .outputs import Outputs
from .schema import schema_text


def inputs_table() -> str:
    """A Markdown table of the inputs of the action: name, modes, help text and default."""
    return _table("input", ACTION_INPUTS)


def settings_tables() -> str:
    """A Markdown table for each group of settings, under its heading."""
    tables = []
    for group, heading in GROUPS.items():
        fields = Inputs.model_fields.items()
        names = [name for name, field in fields if name not in ACTION_INPUTS and declared(field, "group") == group]
        if names:
            tables.append(f"## {heading}\n\n{_table('setting', names)}")
    return "\n\n".join(tables)


def _table(kind: str, names: Iterable[str]) -> str:
    rows = [f"| {kind} | modes | meaning | default |", "|---|---|---|---|"]
    for name in names:
        rows.append(
            f"| `{name}` | {_modes(name)} | {Inputs.model_fields[name].description} | {_default(shown_default(name))} |"
        )
    return "\n".join(rows)


def outputs_table() -> str:
    """A Markdown table of every output: its name and its help text."""
    rows = ["| output | meaning |", "|---|---|"]
    rows += [f"| `{output.name}` | {output.metadata['help']} |" for output in fields(Outputs)]
    return "\n".join(rows)


def inputs_block() -> str:
    """The inputs block of action.yml. The default of each is in its description only, so that the YAML file can override it."""
    lines = ["inputs:"]
    for name in ACTION_INPUTS:
        description = f"{help_with_default(name)} [{_modes(name)}]"
        lines += [f"  {name}:", f"    description: {_quoted(description)}", '    default: ""']
    return "\n".join(lines)


def outputs_block() -> str:
    """The outputs block of action.yml, with the values of the step that runs the mode."""
    lines = ["outputs:"]
    for output in fields(Outputs):
        lines += [f"  {output.name}:", f"    description: {_quoted(output.metadata['help'])}"]
        lines += [f"    value: ${{{{ steps.run.outputs.{output.name} }}}}"]
    return "\n".join(lines)


def with_tables(text: str) -> str:
    """The text of a Markdown file or of action.yml, with its tables or blocks regenerated."""
    for opening, closing, content in (
        ("<!-- inputs -->\n", "<!-- /inputs -->", inputs_table()),
        ("<!-- settings -->\n", "<!-- /settings -->", settings_tables()),
        ("<!-- outputs -->\n", "<!-- /outputs -->", outputs_table()),
        ("\n# inputs\n", "# /inputs\n", inputs_block()),
        ("\n# outputs\n", "# /outputs\n", outputs_block()),
    ):
        before, opened, rest = text.partition(opening)
        _, closed, after = rest.partition(closing)
        if opened and closed:
            text = f"{before}{opening}{content}\n{closing}{after}"
    return text


def _modes(name: str) -> str:
    modes = modes_of(name)
    return "all" if len(modes) == len(MODES) else ", ".join(modes)


def _default(shown: str) -> str:
    return shown if not shown or " " in shown or shown in ("required", "preset") else f"`{shown}`"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # a JSON string is valid YAML


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        text = schema_text() if path.suffix == ".json" else with_tables(path.read_text(encoding="utf-8"))
        path.write_text(text, encoding="utf-8")
