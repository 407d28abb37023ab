"""Load the inputs of a run from the command line, the inputs of the action, its input `settings`, and the YAML file.

A flag overrides an input of the action or a line of `settings`, which override the file, which overrides the default; an empty
value is "not given". If the file has `models`, each of them overrides the file's own inputs, and the run is of the one named by
`model`, or of all of them. All problems are reported at once.
"""

import json
import os
import re
from collections import ChainMap
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..errors import InputError
from ..input_field import PUBLISHES
from .inputs import ACTION_INPUTS, DEFAULT_CONFIG, LAUNCH_INPUTS, Inputs
from .mode_inputs import type_of
from .validate import Problem, as_flag, contradictions, field_problem, suggestion
from .yaml_entries import Entries, YamlProblem, read_entries

ACTION_VARIABLE = "ECHOSELF_INPUTS"
SHARED = ("mode", "model")  # the same for all models
_LAYERS = 4  # flags, settings, action, file
_FOLDER = "output_dir"  # each model has its own, inside the given one
_NOT_SHARED = ("must be the same for all models.", "Set it once, outside of models.")
_WHERE_TO_SET_IT = "Use `hf_token: ${{ secrets.HF_TOKEN }}` under `with:`, or HF_TOKEN in the environment."
_LAUNCHES = "Set it as an input of the action, under `with:`."
# What must not be set there, with the reason and the right place.
_REFUSED_IN_SETTINGS = {
    "hf_token": ("a secret can't be a setting, and was not used.", _WHERE_TO_SET_IT),
    "settings": ("can't be a setting itself.", "Write its lines one level up."),
    "models": ("can't be a setting.", "Write models in the YAML file, .github/echoself.yml or that of config."),
    **dict.fromkeys(LAUNCH_INPUTS, ("can't be a setting: settings are read too late.", _LAUNCHES)),
}
REFUSED_IN_FILE = {
    "hf_token": ("cannot be set in the file, and was not used.", f"{_WHERE_TO_SET_IT} Revoke a token that was committed."),
    "settings": ("cannot be set in the file, where each setting is a key.", "Write its lines as keys of the file."),
    "config": ("cannot be set in the file that it names.", "Set it under `with:`, or as --config."),
    **dict.fromkeys(LAUNCH_INPUTS, ("cannot be set in the file, which is read too late.", _LAUNCHES)),
}
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SHOWN = 200  # characters of a value


@dataclass(frozen=True)
class _Layer:
    """The values from one source. `named` gives the name of an input as it is written there; `lines` its line in `file`.

    `broken` are the inputs whose YAML is wrong: what is wrong with them is reported already.
    """

    values: Mapping[str, Any]
    named: Callable[[str], str]
    file: str | None = None
    lines: Mapping[str, int] = field(default_factory=dict)
    broken: frozenset[str] = frozenset()

    def error(self, name: str, message: str, fix: str) -> InputError:
        return InputError(f"{self.named(name)}: {message}", fix, file=self.file, line=self.lines.get(name))


class InvalidInputsError(InputError):
    """Some inputs are invalid. `models` are the valid inputs of each model, without the others, as far as the mode is known."""

    def __init__(self, message: str, problems: Sequence[InputError], models: Mapping[str, Inputs]) -> None:
        super().__init__(message, problems=problems)
        self.models = models


def load_models(flags: Mapping[str, Any], unknown_flags: Sequence[str] = ()) -> dict[str, Inputs]:
    """The inputs of each model of this run by its name; under "" if the file has no `models`.

    Raises InvalidInputsError with all problems of all models, each with its place and its fix.
    """
    given, action = _given(flags), _action_inputs(os.environ)
    written = read_entries(str(action.pop("settings", "")))
    config = given.get("config") or action.get("config") or written.values.get("config")
    path = str(config or DEFAULT_CONFIG)
    file = _config_file(str(config) if config else None)
    problems = [InputError(f"{flag} is not a flag of this mode.", suggestion(flag)) for flag in _unknown(unknown_flags)]
    problems += [*_not_of_the_action(action), *_given_twice(action, written.values)]
    settings, found = _yaml_layer(written, _in("settings"), "input settings", None, _REFUSED_IN_SETTINGS)
    problems += found
    below, found = _yaml_layer(file, _in(path), f"config: {path}", path, REFUSED_IN_FILE, {"models"})
    problems += found
    models, found = _models(file, path)
    problems += found
    if any(not problem.name for problem in (*written.problems, *file.problems)):
        raise _invalid(problems, {})  # what is missing may be in the text that can't be read
    above = (_Layer(given, as_flag), settings, _Layer(action, lambda name: f"input {name}"))
    loaded: dict[str, Inputs] = {}
    for name, own in (models or {"": _Layer({}, str)}).items():
        layers: tuple[_Layer, ...] = above
        if name:
            upper = [replace(layer, values={k: v for k, v in layer.values.items() if k != _FOLDER}) for layer in above]
            layers = (*upper, replace(own, values=_with_own_folder(name, own.values, above, below.values)))
        inputs, found = _loaded((*layers, below), own)
        problems += found
        if inputs:
            loaded[name] = inputs
    selected = next((layer.values["model"] for layer in (*above, below) if "model" in layer.values), None)
    problems += [*_collisions(loaded, path), *_unknown_model(selected, models, path)]
    if problems:
        raise _invalid(problems, loaded)
    chosen = next(iter(loaded.values())).model
    return {chosen: loaded[chosen]} if chosen else loaded


def _invalid(problems: Sequence[InputError], models: Mapping[str, Inputs]) -> InvalidInputsError:
    distinct = list({str(problem): problem for problem in problems}.values())  # a problem of all models is reported once
    count = "1 input is" if len(distinct) == 1 else f"{len(distinct)} inputs are"
    return InvalidInputsError(f"{count} invalid. Nothing was done.", distinct, models)


def is_given(name: str, flags: Mapping[str, Any] | None = None) -> bool:
    """Whether the flags, the inputs of the action or the YAML file have this input; also if a source can't be read, which is to
    be reported."""
    action = _action_inputs(os.environ)
    written = read_entries(str(action.pop("settings", "")))
    config = action.get("config") or written.values.get("config")
    file = _config_file(str(config) if config else None)
    return any(name in values for values in (flags or {}, action, written.values, file.values)) or bool(file.problems)


def _loaded(layers: Sequence[_Layer], own: _Layer) -> tuple[Inputs | None, list[InputError]]:
    """Validate the values by themselves, then the valid ones together."""
    given = dict(ChainMap(*(dict(layer.values) for layer in layers)))  # the first layer that has an input wins
    broken = frozenset().union(*(layer.broken for layer in layers))
    mode = given.get("mode")
    problems: list[Problem] = []
    try:
        inputs = type_of(mode, given)(**given)
    except ValidationError as error:
        problems = [field_problem(detail, mode) for detail in error.errors()]
        invalid = {problem.concerned[0] for problem in problems}
        problems = [problem for problem in problems if problem.concerned[0] not in broken]
        if "mode" in invalid:  # which inputs contradict each other depends on it
            return None, [_placed(problem, layers, own) for problem in problems]
        inputs = Inputs(**{name: value for name, value in given.items() if name not in invalid})
    invalid = {*broken, *(problem.concerned[0] for problem in problems)}
    problems += [problem for problem in contradictions(inputs) if not invalid.intersection(problem.concerned)]
    return inputs, [_placed(problem, layers, own) for problem in problems]


def _placed(problem: Problem, layers: Sequence[_Layer], own: _Layer) -> InputError:
    """The problem as an error that names its place: a flag, `settings`, an input of the action, a model, or the file."""
    name = problem.concerned[0]
    layer = next((layer for layer in layers if name in layer.values and not (name == "mode" and layer is layers[0])), None)
    several = layers[-2] if len(layers) > _LAYERS else None
    # a contradiction with a model's own values, or an input that is missing in it, is a problem of that model
    if several and (layer is None or not own.values.keys().isdisjoint(problem.concerned)):
        layer = several
    return layer.error(name, problem.message, problem.fix) if layer else InputError(f"{name}: {problem.message}", problem.fix)


def _models(file: Entries, path: str) -> tuple[dict[str, _Layer], list[InputError]]:
    """The models of the file, each with its own inputs."""
    if "models" not in file.mappings and "models" not in file.values:
        return {}, []
    entries = file.mappings.get("models", Entries())
    _, problems = _yaml_layer(entries, _in_models(path), path, path, {}, entries.mappings)
    if not entries.lines and not problems:
        fix = "Write the name of each model and, indented under it, its own inputs, such as data and repo_id."
        message = f"models in {path}: not a mapping of names to inputs."
        problems.append(InputError(message, fix, file=path, line=file.lines["models"]))
    models = {}
    for name, line in entries.lines.items():
        own = entries.mappings.get(name, Entries())
        refused = REFUSED_IN_FILE | dict.fromkeys(SHARED, _NOT_SHARED)
        models[name], found = _yaml_layer(own, _in_model(name, path), path, path, refused)
        problems += found
        if not MODEL_NAME.fullmatch(name) or name in entries.values:
            fix = "Use letters, digits, dots, dashes and underscores in the name, and under it inputs as `name: value`."
            message = f"models.{name} in {path}: not a valid name with a mapping of inputs."
            problems.append(InputError(message, fix, file=path, line=line))
    return models, problems


def _yaml_layer(
    entries: Entries,
    named: Callable[[str], str],
    text: str,
    path: str | None,
    refused: Mapping[str, tuple[str, str]],
    mappings: Collection[str] = (),
) -> tuple[_Layer, list[InputError]]:
    """The values of YAML, without those that are `refused`, and what is wrong with it. `text` names it if it can't be read.

    Only the entries `mappings` may be mappings. `path` is the file that it is in, if any.
    """
    nested = entries.mappings.keys() - {*mappings, *refused}
    values = {name: value for name, value in entries.values.items() if name not in refused}
    broken = frozenset({problem.name for problem in entries.problems} | nested)
    layer = _Layer(values, named, path, entries.lines if path else {}, broken)
    problems = [
        InputError(
            f"{named(problem.name)}: {problem.message}" if problem.name else f"{text} {problem.message}.",
            problem.fix,
            file=path,
            line=problem.line or None if path else None,
        )
        for problem in entries.problems
    ]
    problems += [layer.error(name, *refused[name]) for name in refused if name in entries.lines]
    for name in sorted(nested):
        fix = f"Write one value, or a list, after `{name}:`." if name in Inputs.model_fields else suggestion(name)
        problems.append(layer.error(name, "a mapping, not a value.", fix))
    return layer, problems


def _with_own_folder(name: str, own: Mapping[str, Any], above: Sequence[_Layer], file: Mapping[str, Any]) -> dict[str, Any]:
    """A model's inputs, with an output_dir that no other model uses."""
    given = next((layer.values[_FOLDER] for layer in above if _FOLDER in layer.values), None)
    if given is None and _FOLDER in own:
        return dict(own)
    shared = given or file.get(_FOLDER) or Inputs.model_fields[_FOLDER].default
    return {**own, _FOLDER: shared if isinstance(shared, list) else str(Path(shared) / name)}  # a list is invalid


def _collisions(models: Mapping[str, Inputs], path: str) -> Iterator[InputError]:
    """Pairs of models that would overwrite each other."""
    for (one, ours), (other, theirs) in combinations(models.items(), 2):
        both = f"models.{one} and models.{other} in {path}"
        if ours.output_dir == theirs.output_dir:
            fix = "Remove output_dir from them: each then has its own folder."
            yield InputError(f"{both}: both have the output_dir {ours.output_dir}.", fix, file=path)
        target = (ours.repo_id, ours.revision)
        if ours.mode in PUBLISHES and ours.repo_id and target == (theirs.repo_id, theirs.revision):
            fix = "Give each its own repo_id, under its name."
            yield InputError(f"{both}: both would be published to {' at '.join(map(str, target))}.", fix, file=path)
        corpora = [(one.data, one.val_fraction, one.on_bad_file, one.text_column) for one in (ours, theirs)]
        if ours.mode in PUBLISHES and ours.dataset_repo == theirs.dataset_repo is not None and corpora[0] != corpora[1]:
            fix = "Give each its own dataset_repo_id, under its name."
            yield InputError(f"{both}: both would publish their documents to {ours.dataset_repo}.", fix, file=path)
        if ours.mode in PUBLISHES and ours.demo_repo == theirs.demo_repo is not None:
            fix = "Give each its own demo_repo_id, under its name."
            yield InputError(f"{both}: both would publish their page to {ours.demo_repo}.", fix, file=path)


def _unknown_model(model: object, models: Mapping[str, Any], path: str) -> Iterator[InputError]:
    if isinstance(model, str) and model not in models:
        known = f"Use {', '.join(models)}." if models else f"Add models to {path}, with this name and its inputs under it."
        yield InputError(f"model: {model!r} is not one of the models in {path}.", known)


def _not_of_the_action(action: Mapping[str, Any]) -> Iterator[InputError]:
    """Settings under `with:`.

    A runner only warns of names that action.yml does not declare ("Unexpected input(s)"), and passes them on: `inputs` of a
    composite action has all that is under `with:`, and the defaults of what is not (ActionRunner.cs and
    CompositeActionHandler.cs in actions/runner). So none is dropped silently, here or there.
    """
    moved = [name for name in action if name in Inputs.model_fields and name not in ACTION_INPUTS]
    if moved:
        lines = "\n".join(f"    {_as_line(name, str(action[name]))}" for name in moved)
        names = f"input {moved[0]}: a setting" if len(moved) == 1 else f"inputs {', '.join(moved)}: settings"
        yield InputError(
            f"{names}, not {'an input' if len(moved) == 1 else 'inputs'} of the action.",
            f"Under `with:`, write this, or the lines as keys of {DEFAULT_CONFIG}:\n  settings: |\n{lines}",
        )


def _as_line(name: str, value: str) -> str:
    """A line of YAML that gives `name` this value."""
    value = value if len(value) <= _SHOWN else f"{value[:_SHOWN]}..."
    line = f"{name}: {value}"
    is_plain = "\n" not in value and read_entries(line).values == {name: value}
    return line if is_plain else f"{name}: {json.dumps(value, ensure_ascii=False)}"


def _given_twice(action: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[InputError]:
    for name in settings:
        if name in action:
            yield InputError(f"{name} in settings: also given as the input {name}.", "Remove one of the two.")


def _unknown(words: Sequence[str]) -> list[str]:
    # the value after an unknown flag may be a secret: it is not repeated
    flags = [word.split("=")[0] for word in words if word.startswith("-")]
    return flags or (["An argument without a flag"] if words else [])


def _in(place: str) -> Callable[[str], str]:
    return lambda name: f"{name} in {place}"


def _in_models(path: str) -> Callable[[str], str]:
    return lambda name: f"models.{name} in {path}"


def _in_model(model: str, path: str) -> Callable[[str], str]:
    return lambda name: f"{name} of models.{model} in {path}"


def _action_inputs(environment: Mapping[str, str]) -> dict[str, Any]:
    """The action's inputs: one JSON object in one environment variable, so that nothing is interpolated into a script."""
    text = environment.get(ACTION_VARIABLE)
    try:
        values = json.loads(text) if text else {}
    except ValueError as error:
        raise InputError(f"{ACTION_VARIABLE} is not valid JSON: {error}.", "The action passes toJSON(inputs) in it.") from error
    if not isinstance(values, dict):
        raise InputError(f"{ACTION_VARIABLE} is not a JSON object.", "The action passes toJSON(inputs) in it.")
    return {name.lower(): value for name, value in _given(values).items()}  # as for GitHub, `Mode` is `mode`


def _config_file(named: str | None) -> Entries:
    """The entries of the YAML file named by `config`, or of the default one if it exists."""
    path = Path(named or DEFAULT_CONFIG)
    if not named and not path.is_file():
        return Entries()
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        return Entries(problems=[YamlProblem("", f"is not valid YAML: {error}", "Save the file as UTF-8.")])
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return Entries(problems=[YamlProblem("", f"can't be read: {reason}", "Use the path of a YAML file.")])
    return read_entries(text)


def _given(values: Mapping[Any, Any]) -> dict[str, Any]:
    """Without the inputs that were not given: a composite action passes those as an empty string."""
    return {str(name): value for name, value in values.items() if value not in ("", None)}
