"""The phases of a curriculum as the input `phases` declares them, and what is wrong with them.

Bengio et al. 2009 ("Curriculum learning", ICML) is the source of the idea; EchoSelf's learning phases are an example
(docs/curriculum.md).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic_core import PydanticCustomError

ERROR = "phases"  # the type of the error; its context has `message` and `fix`
MAX_WEIGHT = 100.0  # a window of text is drawn at most so many times in an epoch
_TOLERANCE = 1e-6  # of the sum of the shares
_KEYS = ("name", "share", "weights", "learning_rate", "connections")
_FORM = 'Write each phase as {name: a_name, share: 0.2, weights: {"docs/**": 2}, learning_rate: 1, connections: 0.3}.'


@dataclass(frozen=True)
class Phase:
    """A part of the training of a model.

    `share` is its fraction of the steps of the curriculum. `weights` say how often the text of the files that match a glob is
    seen, relative to its natural share; the first glob that matches a file applies, and 1 to the files that none matches.
    `learning_rate` is a factor on the schedule's. `connections` is the share of a NanEcho's connections at the end of the
    phase, None for the model's own growth.
    """

    name: str
    share: float
    weights: tuple[tuple[str, float], ...] = ()
    learning_rate: float = 1.0
    connections: float | None = None


def parse_phases(value: object) -> object:
    """The phases of a list of mappings, whose values may be text. Phases, and None, are returned as they are.

    Raises PydanticCustomError with all that is wrong, each with the name of its phase and the key.
    """
    if value is None or (isinstance(value, tuple) and all(isinstance(one, Phase) for one in value)):
        return value
    if not isinstance(value, list | tuple) or not value or not all(isinstance(one, Mapping | Phase) for one in value):
        raise _error("not a list of phases.", f"{_FORM} Phases are set in the YAML file or in `settings`.")
    reader = _Reader()
    phases = [one if isinstance(one, Phase) else reader.phase(number, one) for number, one in enumerate(value, 1)]
    if not reader.problems:
        phases = _with_rest(phases, reader)
    if not reader.problems and (problem := _removed_connections(phases)):
        reader.problems.append((problem, "Raise it, or lower the one before it."))
    if reader.problems:
        raise _error("; ".join(problem for problem, _ in reader.problems) + ".", reader.problems[0][1])
    return tuple(phases)


def phases_schema(number: Mapping[str, Any], positive: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON schema of the input. `number` and `positive` are the schemas of a number from 0 on and above 0."""
    unset = {"$ref": "#/definitions/unset"}
    text = {"type": ["string", "number", "boolean"], "minLength": 1}
    fraction = {"allOf": [positive, {"maximum": 1}]}
    weight = {"allOf": [number, {"maximum": MAX_WEIGHT}]}
    phase = {
        "type": "object",
        "additionalProperties": False,
        "required": ["name"],
        "properties": {
            "name": text,
            "share": {"description": "Fraction of curriculum_iters.", "anyOf": [fraction, unset]},
            "weights": {
                "description": "How often the text of the files that match a glob is seen, relative to its natural share.",
                "anyOf": [{"type": "object", "additionalProperties": weight}, unset],
            },
            "learning_rate": {"description": "Factor on the learning rate.", "anyOf": [positive, unset]},
            "connections": {
                "description": "Share of a NanEcho's connections at the end of the phase.",
                "anyOf": [fraction, unset],
            },
        },
    }
    return {"type": "array", "minItems": 1, "items": phase}


class _Reader:
    """Reads phases, and collects what is wrong with them: (problem, fix)."""

    def __init__(self) -> None:
        self.problems: list[tuple[str, str]] = []
        self.without_share: list[int] = []

    def phase(self, number: int, given: Mapping[Any, Any]) -> Phase:
        name = given.get("name")
        where = f"phase {name}" if name and isinstance(name, str) else f"phase {number}"
        for key in given:
            if key not in _KEYS:
                close = get_close_matches(str(key), _KEYS, 1)
                self._add(f"{where}: unknown key {key}", f"Did you mean {close[0]}?" if close else _FORM)
        if not name or not isinstance(name, str):
            self._add(f"{where}: name: missing", "Give each phase a name of its own.")
        share = self._number(where, "share", given.get("share"), 1.0)
        if share is None:
            self.without_share.append(number)
        connections = self._number(where, "connections", given.get("connections"), 1.0)
        rate = self._number(where, "learning_rate", given.get("learning_rate"), math.inf)
        weights = self._weights(where, given.get("weights"))
        return Phase(str(name), share or 0.0, weights, 1.0 if rate is None else rate, connections)

    def _weights(self, where: str, given: object) -> tuple[tuple[str, float], ...]:
        if given in (None, ""):
            return ()
        if not isinstance(given, Mapping):
            self._add(f"{where}: weights: not a mapping of globs to numbers", 'Write weights: {"docs/**": 2, "a.md": 0.5}.')
            return ()
        found = []
        for glob, value in given.items():
            weight = self._number(where, f"weights: {glob}", value, MAX_WEIGHT, allows_zero=True)
            if weight is not None:
                found.append((str(glob), weight))
            elif value in (None, ""):
                self._add(f"{where}: weights: {glob}: no number", "Write a number after the glob, such as 2.")
        return tuple(found)

    def _number(self, where: str, key: str, value: object, most: float, allows_zero: bool = False) -> float | None:
        """A number above 0 (or 0) and at most `most`; None if it is not given or invalid."""
        if value in (None, ""):
            return None
        try:
            number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
        except ValueError:
            number = math.nan
        if math.isfinite(number) and (number > 0 or (allows_zero and number == 0)) and number <= most:
            return number
        limits = f"{'0' if allows_zero else 'above 0'}{f' to {most:g}' if most < math.inf else ''}"
        self._add(f"{where}: {key}: {str(value)[:50]!r} is not a number {limits}", f"Write a number {limits}.")
        return None

    def _add(self, problem: str, fix: str) -> None:
        self.problems.append((problem, fix))


def _with_rest(phases: Sequence[Phase], reader: _Reader) -> list[Phase]:
    """The phases, the last one with the rest of the shares if it has none; adds to the problems of `reader`."""
    names = [phase.name for phase in phases]
    for name in dict.fromkeys(name for name in names if names.count(name) > 1):
        reader.problems.append((f"phase {name}: name: given to several phases", "Give each phase a name of its own."))
    for number in reader.without_share:
        if number < len(phases):
            fix = "Add its share. Only that of the last phase may be left out: it gets the rest."
            reader.problems.append((f"phase {names[number - 1]}: share: missing", fix))
    if reader.problems:
        return list(phases)
    total, last = math.fsum(phase.share for phase in phases), phases[-1]
    if reader.without_share:
        if total > 1 - _TOLERANCE:
            message = f"phase {last.name}: share: nothing is left of 1, because those before it sum to {total:g}"
            reader.problems.append((message, "Lower the shares of the phases before it."))
        return [*phases[:-1], Phase(last.name, 1 - total, last.weights, last.learning_rate, last.connections)]
    if abs(total - 1) > _TOLERANCE:
        message = f"phase {last.name}: share: all shares sum to {total:g}, not to 1"
        reader.problems.append((message, "Change a share, or leave out that of the last phase, which then gets the rest."))
    return list(phases)


def _removed_connections(phases: Sequence[Phase]) -> str:
    """Which phase has fewer connections than one before it, because none are removed; "" if none has."""
    reached, by = 0.0, ""
    for phase in phases:
        if phase.connections is None:
            continue
        if phase.connections < reached:
            return (
                f"phase {phase.name}: connections: {phase.connections:g} is less than {reached:g}, with which phase {by} ends, "
                "and connections are never removed"
            )
        reached, by = phase.connections, phase.name
    return ""


def _error(message: str, fix: str) -> PydanticCustomError:
    return PydanticCustomError(ERROR, "{message}", {"message": message, "fix": fix})
