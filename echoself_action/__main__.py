"""The command line: `echoself MODE [--input value ...]`, and `echoself hub` to run a local Hub.

The flags are generated from config/inputs.py. A mode and its libraries are imported once the mode is known.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from .config.inputs import NO_FLAGS, Inputs, modes_of, shown_default
from .errors import MissingLocalHubError
from .exit_codes import exit_code_of, exit_code_of_model, report_schedule
from .input_field import MODES
from .report.github_actions import mask
from .workspace import LOCAL_HUB

DESCRIPTION = "Train GPT-2 models on a repository's own text, publish them to the Hugging Face Hub, and resume from there."
HELP = {
    "train": "Train a new model, or resume training one.",
    "deploy": "Publish a model to the Hub.",
    "pull": "Download a model from the Hub, or import a checkpoint.",
    "cycle": "Pull, train and deploy in one run.",
    "compare": "Compare two or more models on the same held-out text, or review pull requests on the Hub.",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] == "hub":
        return exit_code_of(lambda: _serve_hub(arguments[1:]))
    if arguments and not arguments[0].startswith("-") and arguments[0] not in MODES:
        return run({"mode": arguments[0]})
    known, unknown = _parser().parse_known_args(arguments)
    return run({name: value for name, value in vars(known).items() if value is not None}, unknown)


def run(flags: dict[str, str], unknown_flags: Sequence[str] = ()) -> int:
    """Run a mode with inputs from flags, environment and file; returns the exit code. Every error is reported here."""

    def work() -> int:
        models = import_module("echoself_action.config.load").load_models(flags, unknown_flags)
        for inputs in models.values():
            mask(inputs.token)
        if len(models) > 1:
            return int(import_module("echoself_action.modes.several_models").run(models))
        (inputs,) = models.values()
        return exit_code_of_model(inputs, lambda: int(import_module(f"echoself_action.modes.{inputs.mode}").run(inputs)))

    code = exit_code_of(work)
    report_schedule()
    return code


def _serve_hub(arguments: Sequence[str]) -> int:
    """`echoself hub`: localhub's own command line, with this program's defaults. Raises MissingLocalHubError."""
    try:
        localhub = import_module("localhub.__main__")
    except ModuleNotFoundError as error:
        if error.name != "localhub":
            raise
        raise MissingLocalHubError("echoself hub") from None
    return int(localhub.main(arguments, "echoself hub", str(LOCAL_HUB), "ECHOSELF_HUB_TOKEN"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="echoself", description=DESCRIPTION, allow_abbrev=False)
    commands = parser.add_subparsers(title="modes", metavar="MODE", dest="mode")
    for mode in MODES:
        command = commands.add_parser(mode, help=HELP[mode], description=HELP[mode], allow_abbrev=False)
        for name, field in Inputs.model_fields.items():
            if mode not in modes_of(name) or name in NO_FLAGS:
                continue
            default = shown_default(name)
            switch = {"nargs": "?", "const": "true"} if "bool" in str(field.annotation) else {}
            command.add_argument(
                f"--{name.replace('_', '-')}",
                help=f"{field.description}{f' ({default})' if default else ''}".replace("%", "%%"),
                metavar="VALUE",
                **switch,  # type: ignore[arg-type]
            )
    commands.add_parser("hub", help="Run a local Hub.", add_help=False)
    return parser


if __name__ == "__main__":
    sys.exit(main())
