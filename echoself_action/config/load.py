"""The inputs of a run, from everywhere that they are given.

A flag beats an action input, which beats the file, which beats the default; an empty string is "not given". Where the file
has `models`, each is the file's inputs with its own over them, and a run is of the one that `model` names, or of all.
Everything that is wrong is reported at once.
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
from .inputs import DEFAULT_CONFIG, LAUNCH_INPUTS, PUBLISHES, Inputs
from .validate import Problem, closest, contradictions, field_problem

ACTION_VARIABLE = "ECHOSELF_INPUTS"
_OF_ALL = ("mode", "config", "model", *LAUNCH_INPUTS)  # what no model has for itself
_FOLDER = "output_dir"  # of which each model has one of its own, inside the one that is given
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class _Layer:
    """Values from one place. `named` is what an input of it is called there."""

    values: Mapping[str, Any]
    named: Callable[[str], str]
    file: str | None = None


def load_models(flags: Mapping[str, Any], unknown_flags: Sequence[str] = ()) -> dict[str, Inputs]:
    """The inputs of each model of this run, by its name; where the file has no `models`, of one without a name.

    Raises InputError with one problem for everything that is wrong, in any model, each with its place and its fix.
    """
    given, action = _given(flags), _action_inputs(os.environ)
    config = given.get("config") or action.get("config")
    file, path = _config_file(config), str(config or DEFAULT_CONFIG)
    models = _models(file.pop("models", None), path)
    problems = [InputError(f"{flag} is no flag of this mode.", closest(flag)) for flag in _unknown(unknown_flags)]
    above = (_Layer(given, _as_flag), _Layer(action, lambda name: f"input {name}"))
    below = _Layer(file, lambda name: f"{name} in {path}", path)
    problems += _too_late(file, path)
    loaded: dict[str, Inputs] = {}
    for name, own in (models or {"": {}}).items():
        layers: tuple[_Layer, ...] = above
        if name:
            upper = [replace(layer, values={k: v for k, v in layer.values.items() if k != _FOLDER}) for layer in above]
            layers = (*upper, _Layer(_in_its_folder(name, own, above, file), _of_model(name, path), path))
            problems += _of_all(own, layers[-1])
        inputs, found = _loaded((*layers, below), own)
        problems += found
        if inputs:
            loaded[name] = inputs
    asked = given.get("model") or action.get("model") or file.get("model")
    problems += [*_colliding(loaded, path), *_not_there(asked, models, path)]
    if problems := list({str(problem): problem for problem in problems}.values()):  # one of all models is said once
        count = "1 input is" if len(problems) == 1 else f"{len(problems)} inputs are"
        raise InputError(f"{count} wrong. Nothing was done.", problems=problems)
    chosen = next(iter(loaded.values())).model
    return {chosen: loaded[chosen]} if chosen else loaded


def _loaded(layers: Sequence[_Layer], own: Mapping[str, Any]) -> tuple[Inputs | None, list[InputError]]:
    """One round for the values, and one for the contradictions between those of them that are right."""
    places = [dict(layer.values) for layer in layers]
    problems: list[Problem] = []
    try:
        inputs = _merged(places)
    except ValidationError as error:
        problems = [field_problem(detail) for detail in error.errors()]
        wrong = {problem.concerned[0] for problem in problems}
        if "mode" in wrong:  # without a mode, nobody knows what the others contradict
            return None, [_placed(problem, layers, own) for problem in problems]
        inputs = _merged([{name: place[name] for name in place if name not in wrong} for place in places])
    wrong = {problem.concerned[0] for problem in problems}
    problems += [problem for problem in contradictions(inputs) if not wrong.intersection(problem.concerned)]
    return inputs, [_placed(problem, layers, own) for problem in problems]


def _merged(places: list[dict[str, Any]]) -> Inputs:
    """Validate the values of all places together; where two of them give an input, the first one is used."""
    return Inputs(**ChainMap(*places))


def _placed(problem: Problem, layers: Sequence[_Layer], own: Mapping[str, Any]) -> InputError:
    """A problem, with where its value was given: a flag, an input of the action, a model, or the file."""
    name = problem.concerned[0]
    holds = (layer for layer in layers if name in layer.values and not (name == "mode" and layer is layers[0]))
    layer = next(holds, None)
    several = layers[2] if len(layers) > 3 else None
    # what only a model's own values contradict, or what it alone lacks, is said of that model
    if several and (layer is None or not own.keys().isdisjoint(problem.concerned)):
        layer = several
    place = layer.named(name) if layer else name
    return InputError(f"{place}: {problem.message}", problem.fix, file=layer.file if layer else None)


def _models(models: object, path: str) -> dict[str, dict[str, Any]]:
    """The models of the file, each with its own inputs. Raises InputError where they are no such mapping."""
    if models is None:
        return {}
    if not isinstance(models, Mapping) or not models:
        fix = "Write a name, and under it what that model has for itself, such as its data and its repo_id."
        raise InputError(f"models in {path}: no mapping of names to inputs. Nothing was done.", fix, file=path)
    for name, own in models.items():
        if not _MODEL_NAME.fullmatch(str(name)) or not isinstance(own or {}, Mapping):
            fix = "A name has letters, digits, dots, dashes and underscores; under it stand inputs, as `name: value`."
            raise InputError(f"models.{name} in {path}: no name with a mapping of inputs. Nothing was done.", fix, file=path)
    return {str(name): _given(own or {}) for name, own in models.items()}


def _in_its_folder(name: str, own: Mapping[str, Any], above: Sequence[_Layer], file: Mapping[str, Any]) -> dict[str, Any]:
    """A model's inputs, with an output_dir that it shares with no other."""
    own = {key: value for key, value in own.items() if key not in _OF_ALL}
    given = next((layer.values[_FOLDER] for layer in above if _FOLDER in layer.values), None)
    if given is None and _FOLDER in own:
        return own
    shared = given or file.get(_FOLDER) or Inputs.model_fields[_FOLDER].default
    return {**own, _FOLDER: str(Path(str(shared)) / name)}


def _of_all(own: Mapping[str, Any], layer: _Layer) -> Iterator[InputError]:
    for name in _OF_ALL:
        if name in own:
            place = layer.named(name)
            yield InputError(f"{place}: it is one for all models.", "Give it once, outside of models.", file=layer.file)


def _colliding(models: Mapping[str, Inputs], path: str) -> Iterator[InputError]:
    """What two models would do to each other."""
    for (one, ours), (other, theirs) in combinations(models.items(), 2):
        both = f"models.{one} and models.{other} in {path}"
        if ours.output_dir == theirs.output_dir:
            fix = "Leave output_dir out of them: each has a folder of its own then."
            yield InputError(f"{both}: both have the output_dir {ours.output_dir}.", fix, file=path)
        target = (ours.repo_id, ours.revision)
        if ours.mode in PUBLISHES and ours.repo_id and target == (theirs.repo_id, theirs.revision):
            fix = "Give each its own repo_id, under its name."
            yield InputError(f"{both}: both would be published to {' at '.join(map(str, target))}.", fix, file=path)
        corpora = [(one.data, one.val_fraction, one.on_bad_file) for one in (ours, theirs)]
        if ours.mode in PUBLISHES and ours.dataset_repo == theirs.dataset_repo is not None and corpora[0] != corpora[1]:
            fix = "Give each its own dataset_repo_id, under its name."
            yield InputError(f"{both}: both would publish their documents to {ours.dataset_repo}.", fix, file=path)


def _not_there(model: str | None, models: Mapping[str, Any], path: str) -> Iterator[InputError]:
    if model and model not in models:
        known = f"Use {', '.join(models)}." if models else f"Add models to {path}, with this name and its inputs under it."
        yield InputError(f"model: {model!r} is none of the models in {path}.", known)


def _too_late(file: Mapping[str, Any], path: str) -> list[InputError]:
    """What the file says and nobody heeds: it is read when the container or the venv is running."""
    fix = "Give it as an input of the action, under `with:`."
    found = [name for name in LAUNCH_INPUTS if name in file]
    return [InputError(f"{name} in {path}: the file is read too late for it.", fix, file=path) for name in found]


def _unknown(words: Sequence[str]) -> list[str]:
    # the value after an unknown flag may be a secret: it is not repeated
    flags = [word.split("=")[0] for word in words if word.startswith("-")]
    return flags or (["A word without a flag"] if words else [])


def _as_flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _of_model(model: str, path: str) -> Callable[[str], str]:
    return lambda name: f"{name} of models.{model} in {path}"


def _action_inputs(environment: Mapping[str, str]) -> dict[str, Any]:
    """The action's inputs: one JSON object in one environment variable, so that nothing is interpolated into a script."""
    text = environment.get(ACTION_VARIABLE)
    try:
        values = json.loads(text) if text else {}
    except ValueError as error:
        raise InputError(f"{ACTION_VARIABLE} is no JSON: {error}.", "The action passes toJSON(inputs) in it.") from error
    if not isinstance(values, dict):
        raise InputError(f"{ACTION_VARIABLE} is no JSON object.", "The action passes toJSON(inputs) in it.")
    return _given(values)


def _config_file(named: str | None) -> dict[str, Any]:
    """The inputs in the YAML file that `config` names, or in the default one where it is there."""
    path = Path(named or DEFAULT_CONFIG)
    if not named and not path.is_file():
        return {}
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"config: {path} can't be read: {error.strerror}.", "Give the path of a YAML file.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"config: {path} is no YAML: {error}.", "Mend the file.", file=str(path)) from error
    if not isinstance(values or {}, dict):
        raise InputError(
            f"config: {path} holds no mapping of inputs.", "Write `name: value`, one input a line.", file=str(path)
        )
    return _given(values or {})


def _given(values: Mapping[Any, Any]) -> dict[str, Any]:
    """Without what was not given: a composite action passes an empty string for that."""
    return {str(name): value for name, value in values.items() if value not in ("", None)}
