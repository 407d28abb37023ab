"""The command line: `echoself MODE [--input value ...]`, `echoself doctor` to check a job, `echoself hub` to run a local Hub.

The flags are generated from config/inputs.py. A mode and its libraries are imported once the mode is known.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import version

from .config.command_line import COMMANDS, DOCTOR_HELP, OVERVIEW, mode_help, parse_flags, suggested_command
from .errors import InputError, MissingLocalHubError
from .exit_codes import exit_code_of, exit_code_of_invalid_inputs, exit_code_of_model, report_schedule
from .input_field import MODES, Mode
from .installation import DISTRIBUTION, localhub_command
from .report.github_actions import mask
from .workspace import LOCAL_HUB, create_cache

_HELP = ("-h", "--help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    return exit_code_of(lambda: _command(arguments))


def run(flags: Mapping[str, str], unknown_flags: Sequence[str] = ()) -> int:
    """Run a mode with inputs from flags, environment and file; returns the exit code. Every error is reported here."""
    code = exit_code_of(lambda: _run(flags, unknown_flags))
    report_schedule()
    return code


def _command(arguments: Sequence[str]) -> int:
    first, rest = (arguments[0], arguments[1:]) if arguments else ("", ())
    mode = next((mode for mode in MODES if mode == first), None)
    if first in ("help", *_HELP):
        return _help(rest)
    if first in ("--version", "-V"):
        _show(_version())
        return 0
    if first == "hub":
        return _serve_hub(rest)
    if first == "doctor":
        return _examine(rest)
    if mode and any(word in _HELP for word in rest):
        return _help([mode])
    if mode:
        return run(*parse_flags(mode, rest))
    if first and not first.startswith("-"):
        raise InputError(f"mode: {first!r} is not a valid mode. Nothing was done.", suggested_command(first))
    if not first and not import_module("echoself_action.config.load").is_given("mode"):
        print(OVERVIEW, file=sys.stderr)
        return InputError.exit_code
    return run(*parse_flags(None, arguments))


def _run(flags: Mapping[str, str], unknown_flags: Sequence[str]) -> int:
    load = import_module("echoself_action.config.load")
    try:
        models = load.load_models(flags, unknown_flags)
    except load.InvalidInputsError as error:
        return exit_code_of_invalid_inputs(error, error.models.values())
    for inputs in models.values():
        mask(inputs.token)
    if len(models) > 1:
        return int(import_module("echoself_action.modes.several_models").run(models))
    (inputs,) = models.values()
    start_mode = import_module("echoself_action.modes.start_mode").start_mode
    return exit_code_of_model(inputs, lambda: int(start_mode(inputs)))


def _examine(words: Sequence[str]) -> int:
    """`echoself doctor [MODE] [--input VALUE ...]`.

    Without a mode it is that of the YAML file; else cycle, or train without a repo_id.
    """
    if any(word in _HELP for word in words):
        return _help(["doctor"])
    mode = next((mode for mode in MODES if [mode] == list(words[:1])), None)
    flags, unknown = parse_flags(mode, words[1:] if mode else words)
    if unknown and not unknown[0].startswith("-"):
        raise InputError(f"doctor: {unknown[0]!r} is not a valid mode. Nothing was checked.", f"Use {', '.join(MODES)}.")
    load = import_module("echoself_action.config.load")
    default = {} if mode or load.is_given("mode") else {"mode": "cycle" if load.is_given("repo_id", flags) else "train"}
    models = load.load_models(default | flags, unknown)
    for inputs in models.values():
        mask(inputs.token)
    return int(import_module("echoself_action.modes.doctor").run(models))


def _help(words: Sequence[str]) -> int:
    asked = next((word for word in words if not word.startswith("-")), "")
    mode: Mode | None = next((mode for mode in MODES if mode == asked), None)
    if mode:
        _show(mode_help(mode))
    elif asked == "doctor":
        _show(DOCTOR_HELP)
    elif asked == "hub":
        return _serve_hub(["--help"])
    elif asked and asked not in COMMANDS:
        raise InputError(f"help: there is no command {asked!r}.", suggested_command(asked))
    else:
        _show(OVERVIEW)
    return 0


def _show(text: str) -> None:
    """Print a text that may be longer than what reads it, such as `head`."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it once more when it exits


def _version() -> str:
    native = import_module("echoself_action.native")
    kernels = native.best_instruction_set()
    why_not = native.load_error() or "this CPU has none of their instruction sets"
    compiled = f"native kernels: {kernels}" if kernels else f"no native kernels: {why_not}"
    python = sys.version.partition(" ")[0]
    return f"echoself-action {version(DISTRIBUTION)}, torch {version('torch')}, Python {python}\n{compiled}"


def _serve_hub(arguments: Sequence[str]) -> int:
    """`echoself hub`: localhub's own command line, with this program's defaults. Raises MissingLocalHubError."""
    try:
        localhub = import_module("localhub.__main__")
    except ModuleNotFoundError as error:
        if error.name != "localhub":
            raise
        raise MissingLocalHubError("echoself hub", localhub_command()) from None
    if not any(word in _HELP or word.startswith("--dir") for word in arguments):
        create_cache(LOCAL_HUB)
    return int(localhub.main(arguments, "echoself hub", str(LOCAL_HUB), "ECHOSELF_HUB_TOKEN"))


if __name__ == "__main__":
    sys.exit(main())
