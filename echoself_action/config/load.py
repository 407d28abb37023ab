"""Load the inputs of a run from the command line, the inputs of the action and the YAML file.

A flag overrides an action input, which overrides the file, which overrides the default; an empty string is "not given". If the
file has `models`, each of them overrides the file's own inputs, and the run is of the one named by `model`, or of all of them.
All problems are reported at once.
"""

import json
import os
import re
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ..errors import InputError
from ..input_field import PUBLISHES
from .inputs import DEFAULT_CONFIG, LAUNCH_INPUTS, Inputs
from .mode_inputs import type_of
from .validate import Problem, contradictions, field_problem, suggestion

ACTION_VARIABLE = "ECHOSELF_INPUTS"
_SHARED = ("mode", "config", "model", *LAUNCH_INPUTS)  # the same for all models
_FOLDER = "output_dir"  # each model has its own, inside the given one
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class _Layer:
    """The values from one source. `named` gives the name of an input as it is written there."""

    values: Mapping[str, Any]
    named: Callable[[str], str]
    file: str | None = None


def load_models(flags: Mapping[str, Any], unknown_flags: Sequence[str] = ()) -> dict[str, Inputs]:
    """The inputs of each model of this run by its name; under "" if the file has no `models`.

    Raises InputError with all problems of all models, each with its place and its fix.
    """
    given, action = _given(flags), _action_inputs(os.environ)
    config = given.get("config") or action.get("config")
    file, path = _config_file(config), str(config or DEFAULT_CONFIG)
    models = _models(file.pop("models", None), path)
    problems = [InputError(f"{flag} is not a flag of this mode.", suggestion(flag)) for flag in _unknown(unknown_flags)]
    above = (_Layer(given, _as_flag), _Layer(action, lambda name: f"input {name}"))
    below = _Layer(file, lambda name: f"{name} in {path}", path)
    problems += _launch_inputs_in(file, path)
    loaded: dict[str, Inputs] = {}
    for name, own in (models or {"": {}}).items():
        layers: tuple[_Layer, ...] = above
        if name:
            upper = [replace(layer, values={k: v for k, v in layer.values.items() if k != _FOLDER}) for layer in above]
            layers = (*upper, _Layer(_with_own_folder(name, own, above, file), _in_model(name, path), path))
            problems += _shared_in(own, layers[-1])
        inputs, found = _loaded((*layers, below), own)
        problems += found
        if inputs:
            loaded[name] = inputs
    selected = given.get("model") or action.get("model") or file.get("model")
    problems += [*_collisions(loaded, path), *_unknown_model(selected, models, path)]
    if problems := list({str(problem): problem for problem in problems}.values()):  # a problem of all models is reported once
        count = "1 input is" if len(problems) == 1 else f"{len(problems)} inputs are"
        raise InputError(f"{count} invalid. Nothing was done.", problems=problems)
    chosen = next(iter(loaded.values())).model
    return {chosen: loaded[chosen]} if chosen else loaded


def _loaded(layers: Sequence[_Layer], own: Mapping[str, Any]) -> tuple[Inputs | None, list[InputError]]:
    """Validate the values by themselves, then the valid ones together."""
    given = dict(ChainMap(*(dict(layer.values) for layer in layers)))  # the first layer that has an input wins
    mode = given.get("mode")
    problems: list[Problem] = []
    try:
        inputs = type_of(mode, given)(**given)
    except ValidationError as error:
        problems = [field_problem(detail, mode) for detail in error.errors()]
        invalid = {problem.concerned[0] for problem in problems}
        if "mode" in invalid:  # which inputs contradict each other depends on it
            return None, [_placed(problem, layers, own) for problem in problems]
        inputs = Inputs(**{name: value for name, value in given.items() if name not in invalid})
    invalid = {problem.concerned[0] for problem in problems}
    problems += [problem for problem in contradictions(inputs) if not invalid.intersection(problem.concerned)]
    return inputs, [_placed(problem, layers, own) for problem in problems]


def _placed(problem: Problem, layers: Sequence[_Layer], own: Mapping[str, Any]) -> InputError:
    """The problem as an error that names its place: a flag, an input of the action, a model, or the file."""
    name = problem.concerned[0]
    holds = (layer for layer in layers if name in layer.values and not (name == "mode" and layer is layers[0]))
    layer = next(holds, None)
    several = layers[2] if len(layers) > 3 else None
    # a contradiction with a model's own values, or an input that is missing in it, is a problem of that model
    if several and (layer is None or not own.keys().isdisjoint(problem.concerned)):
        layer = several
    place = layer.named(name) if layer else name
    return InputError(f"{place}: {problem.message}", problem.fix, file=layer.file if layer else None)


def _models(models: object, path: str) -> dict[str, dict[str, Any]]:
    """The models of the file, each with its own inputs. Raises InputError if they are not a mapping of mappings."""
    if models is None:
        return {}
    if not isinstance(models, Mapping) or not models:
        fix = "Write the name of each model and, indented under it, its own inputs, such as data and repo_id."
        raise InputError(f"models in {path}: not a mapping of names to inputs. Nothing was done.", fix, file=path)
    for name, own in models.items():
        if not _MODEL_NAME.fullmatch(str(name)) or not isinstance(own or {}, Mapping):
            fix = "Use letters, digits, dots, dashes and underscores in the name, and under it inputs as `name: value`."
            message = f"models.{name} in {path}: not a valid name with a mapping of inputs. Nothing was done."
            raise InputError(message, fix, file=path)
    return {str(name): _given(own or {}) for name, own in models.items()}


def _with_own_folder(name: str, own: Mapping[str, Any], above: Sequence[_Layer], file: Mapping[str, Any]) -> dict[str, Any]:
    """A model's inputs, with an output_dir that no other model uses."""
    own = {key: value for key, value in own.items() if key not in _SHARED}
    given = next((layer.values[_FOLDER] for layer in above if _FOLDER in layer.values), None)
    if given is None and _FOLDER in own:
        return own
    shared = given or file.get(_FOLDER) or Inputs.model_fields[_FOLDER].default
    return {**own, _FOLDER: str(Path(str(shared)) / name)}


def _shared_in(own: Mapping[str, Any], layer: _Layer) -> Iterator[InputError]:
    for name in _SHARED:
        if name in own:
            message = f"{layer.named(name)}: must be the same for all models."
            yield InputError(message, "Set it once, outside of models.", file=layer.file)


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


def _unknown_model(model: str | None, models: Mapping[str, Any], path: str) -> Iterator[InputError]:
    if model and model not in models:
        known = f"Use {', '.join(models)}." if models else f"Add models to {path}, with this name and its inputs under it."
        yield InputError(f"model: {model!r} is not one of the models in {path}.", known)


def _launch_inputs_in(file: Mapping[str, Any], path: str) -> list[InputError]:
    """Inputs that have no effect in the file: it is read when the container or the venv is already running."""
    fix = "Set it as an input of the action, under `with:`."
    found = [name for name in LAUNCH_INPUTS if name in file]
    return [
        InputError(f"{name} in {path}: cannot be set in the file, which is read too late.", fix, file=path) for name in found
    ]


def _unknown(words: Sequence[str]) -> list[str]:
    # the value after an unknown flag may be a secret: it is not repeated
    flags = [word.split("=")[0] for word in words if word.startswith("-")]
    return flags or (["An argument without a flag"] if words else [])


def _as_flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


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
    return _given(values)


def _config_file(named: str | None) -> dict[str, Any]:
    """The inputs in the YAML file named by `config`, or in the default one if it exists."""
    path = Path(named or DEFAULT_CONFIG)
    if not named and not path.is_file():
        return {}
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"config: {path} can't be read: {error.strerror}.", "Use the path of a YAML file.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"config: {path} is not valid YAML: {error}.", "Fix the file.", file=str(path)) from error
    if not isinstance(values or {}, dict):
        raise InputError(
            f"config: {path} is not a mapping of inputs.", "Write `name: value`, one input per line.", file=str(path)
        )
    return _given(values or {})


def _given(values: Mapping[Any, Any]) -> dict[str, Any]:
    """Without the inputs that were not given: a composite action passes those as an empty string."""
    return {str(name): value for name, value in values.items() if value not in ("", None)}
