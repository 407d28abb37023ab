"""The inputs and outputs for their readers: Markdown tables, and the two blocks of action.yml.

`python -m echoself_action.config.reference README.md action.yml` writes them into the files, each between the lines
`<!-- inputs -->` and `<!-- /inputs -->`, in YAML `# inputs` and `# /inputs` (and `outputs` likewise).
"""

import json
import sys
from dataclasses import fields
from pathlib import Path

from .inputs import MODES, Inputs, modes_of, shown_default
from .outputs import Outputs


def inputs_table() -> str:
    """Every input: its name, the modes that have it, its help and its default."""
    rows = ["| input | modes | meaning | default |", "|---|---|---|---|"]
    for name, declared in Inputs.model_fields.items():
        rows.append(f"| `{name}` | {_modes(name)} | {declared.description} | {_default(shown_default(name))} |")
    return "\n".join(rows)


def outputs_table() -> str:
    """Every output: its name and its help."""
    rows = ["| output | meaning |", "|---|---|"]
    rows += [f"| `{output.name}` | {output.metadata['help']} |" for output in fields(Outputs)]
    return "\n".join(rows)


def inputs_block() -> str:
    """Every input for action.yml. None has a default there: the help names it."""
    lines = ["inputs:"]
    for name, declared in Inputs.model_fields.items():
        default = shown_default(name)
        said = "Required." if default == "required" else f"Default: {default}." if default else ""
        told = f"{declared.description} {said} [{_modes(name)}]".replace("  ", " ")
        lines += [f"  {name}:", f"    description: {_quoted(told)}", '    default: ""']
    return "\n".join(lines)


def outputs_block() -> str:
    """Every output for action.yml, from the step that runs the mode."""
    lines = ["outputs:"]
    for output in fields(Outputs):
        lines += [f"  {output.name}:", f"    description: {_quoted(output.metadata['help'])}"]
        lines += [f"    value: ${{{{ steps.run.outputs.{output.name} }}}}"]
    return "\n".join(lines)


def with_tables(text: str) -> str:
    """Markdown with its tables, or action.yml with its blocks, written anew."""
    for opening, closing, content in (
        ("<!-- inputs -->\n", "<!-- /inputs -->", inputs_table()),
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
    return json.dumps(text, ensure_ascii=False)  # every JSON string is one in YAML


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        path.write_text(with_tables(path.read_text(encoding="utf-8")), encoding="utf-8")
