"""The flags of each mode and the help texts, from the table of inputs."""

import argparse
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from textwrap import fill, wrap
from types import UnionType
from typing import Annotated, Any, Literal, NoReturn, Union, get_args, get_origin

from ..errors import InputError
from ..input_field import GROUPS, MODES, Mode, declared
from .inputs import ACTION_INPUTS, NO_FLAGS, Inputs, modes_of, shown_default
from .validate import as_flag

MODE_HELP: Mapping[Mode, str] = {
    "train": "Train a new model, or resume training one.",
    "deploy": "Publish a model to the Hub.",
    "pull": "Download a model from the Hub, or import a checkpoint.",
    "cycle": "Pull, train and deploy in one run.",
    "compare": "Compare two or more models on the same held-out text, or review pull requests on the Hub.",
}
EXAMPLES: Mapping[Mode, tuple[str, ...]] = {
    "train": ("echoself train --data 'docs/**/*.md' --max-minutes 10",),
    "deploy": ("echoself deploy --repo-id you/your-model --license mit",),
    "pull": ("echoself pull --repo-id you/your-model", "echoself pull --checkpoint ckpt.pt"),
    "cycle": (
        "echoself cycle --repo-id you/your-model --max-minutes 10",
        "echoself cycle --repo-id me/model --hub local",
    ),
    "compare": ("echoself compare --repo-id you/your-model", "echoself compare --candidates echoself-model,you/your-model"),
}
COMMANDS = (*MODES, "doctor", "hub", "help")
_COMMAND_HELP: dict[str, str] = {
    **{mode: MODE_HELP[mode] for mode in MODES},
    "doctor": "Check whether a job could start, and show what it would do.",
    "hub": "Run a local Hub.",
    "help": "Show the inputs of a mode: echoself help train",
}

OVERVIEW = "\n".join(
    [
        "Train GPT-2 models on the text of a folder, publish them to the Hugging Face",
        "Hub, and resume from there.",
        "",
        "usage: echoself MODE [--input VALUE ...]",
        "",
        "  echoself train",
        "      trains on the Markdown files below this folder for 10 minutes",
        "  HF_TOKEN=hf_... echoself cycle --repo-id you/your-model",
        "      resumes the published model, trains, and publishes it if it is better",
        "",
        "modes and commands:",
        *(fill(text, 80, initial_indent=f"  {name:8} ", subsequent_indent=11 * " ") for name, text in _COMMAND_HELP.items()),
        "",
        "  --version  the versions of the package, of PyTorch and of Python",
    ]
)

DOCTOR_HELP = """\
usage: echoself doctor [MODE] [--input VALUE ...]

Check whether a job of MODE could start with these inputs, and show what it
would do: the access of the token, the repo and what is published there, the
corpus, this machine, where training would start, and how many steps it would
take. Nothing is trained; nothing is written or published.

  echoself doctor --repo-id you/your-model
  echoself doctor train --data 'docs/**/*.md'

Without MODE it is that of the YAML file; else cycle, or train without a repo_id.
The inputs are those of the mode: see `echoself help MODE`. The exit code is 0 if
the job would start, else the one that the job would end with."""


def parse_flags(mode: Mode | None, words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The inputs that are given as flags, with the mode, and the words that are not flags of it.

    Without a mode, which the YAML file may have, all flags are known. Raises InputError for a flag without a value.
    """
    known, unknown = _parser(mode).parse_known_args(words)
    flags = {name: value for name, value in vars(known).items() if value is not None}
    return ({"mode": mode} if mode else {}) | flags, unknown


def mode_help(mode: Mode) -> str:
    """The help text of a mode: an example, and its inputs."""
    return _parser(mode).format_help()


def suggested_command(name: str) -> str:
    """Advice for `name`, which is not a command."""
    close = get_close_matches(name, COMMANDS, 1)
    return f"Did you mean `echoself {close[0]}`?" if close else "See `echoself --help`."


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    def _split_lines(self, text: str, width: int) -> list[str]:
        return wrap(text, width, break_on_hyphens=False, break_long_words=False)  # of paths and commands


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message[:1].upper()}{message[1:]}. Nothing was done.", f"See `{self.prog} --help`.")


def _parser(mode: Mode | None) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=f"echoself {mode or 'MODE'}",
        usage="%(prog)s [--input VALUE ...]",
        description="\n".join((MODE_HELP[mode], "", *(f"  {line}" for line in EXAMPLES[mode]))) if mode else None,
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    for heading, names in _by_group(mode).items():
        group = parser.add_argument_group(heading)
        for name in names:
            field, default = Inputs.model_fields[name], shown_default(name)
            text = f"{field.description}{f' Default: {default}.' if default else ''}".replace("%", "%%")
            switch: dict[str, Any] = {"nargs": "?", "const": "true"} if "bool" in str(field.annotation) else {}
            group.add_argument(as_flag(name), help=text, metavar=_metavar(field.annotation), **switch)
    return parser


def _by_group(mode: Mode | None) -> dict[str, list[str]]:
    """The names of the inputs of a mode by heading: those of the action first, which most users need, then the settings."""
    names = [name for name in Inputs.model_fields if name not in NO_FLAGS and (mode is None or mode in modes_of(name))]
    found = {"Inputs": [name for name in ACTION_INPUTS if name in names]}
    for group, heading in GROUPS.items():
        settings = [
            name for name in names if name not in ACTION_INPUTS and declared(Inputs.model_fields[name], "group") == group
        ]
        if settings:
            found[f"Settings: {heading}"] = settings
    return found


def _metavar(annotation: Any) -> str:
    """What stands for a value of this type in the help text: its choices, or its kind."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return "|".join(parts)
    if origin is Annotated:
        return _metavar(parts[0])
    if origin in (Union, UnionType):
        return _metavar(next(part for part in parts if part is not type(None)))
    if origin in (list, tuple):
        return "VALUE,..."
    return {bool: "true|false", int: "N", float: "X", Path: "PATH"}.get(annotation, "VALUE")
