"""Read the YAML of inputs: the file of `config`, and the input `settings`.

A value is the text that is written there, as in a flag or an input of the action, so that it means the same everywhere.
YAML's own types would turn `tag: 1.10` into 1.1, `verify: off` into false, and a date into an object.
"""

from dataclasses import dataclass, field
from typing import Any

import yaml

_SHOWN = 100  # characters of a name
_MAX_DEPTH = 2  # models, and the names in it
_TEXT_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null")}
_NULL = "tag:yaml.org,2002:null"
STRUCTURED = ("phases",)  # inputs that are lists of mappings
Value = str | list[str] | list[dict[str, Any]]


@dataclass(frozen=True)
class YamlProblem:
    """`name` is the input that it is about; it is empty if the text can't be read. `line` is 1-based, 0 if unknown."""

    name: str
    message: str
    fix: str
    line: int = 0


@dataclass
class Entries:
    """The entries of a mapping: values by name, mappings by name, and the line of each. Empty values are left out."""

    values: dict[str, Value] = field(default_factory=dict)
    mappings: dict[str, "Entries"] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    problems: list[YamlProblem] = field(default_factory=list)

    @property
    def is_readable(self) -> bool:
        """Whether the text is a mapping, so that what it lacks is really missing."""
        return all(problem.name for problem in self.problems)


class _Loader(yaml.SafeLoader):
    """Resolves nothing but null, so that all other scalars are text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag == _NULL]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_entries(text: str) -> Entries:
    """The entries of a YAML text. Everything that is wrong is in `problems`, all at once."""
    try:
        node = yaml.compose(text, Loader=_Loader)
        if node is None or _is_null(node):
            return Entries()
        if isinstance(node, yaml.MappingNode):
            return _entries(node)
    except (yaml.YAMLError, RecursionError) as error:
        return Entries(problems=[_syntax_problem(error)])
    kind = "a list" if isinstance(node, yaml.SequenceNode) else "a text"
    return Entries(
        problems=[YamlProblem("", f"is {kind}, not a mapping of names to values", "Write `name: value`, one per line.")]
    )


def _entries(node: yaml.MappingNode, depth: int = 0, merging: tuple[yaml.Node, ...] = ()) -> Entries:
    found = Entries()
    merged: list[yaml.MappingNode] = []
    for key, value in node.value:
        line = key.start_mark.line + 1
        name = key.value if isinstance(key, yaml.ScalarNode) else "?"
        name = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}..."
        if name == "<<" and key.style is None:
            nodes = value.value if isinstance(value, yaml.SequenceNode) else [value]
            merged += [other for other in nodes if isinstance(other, yaml.MappingNode)]
            if len(merged) < len(nodes):
                found.problems.append(
                    YamlProblem(name, "not a mapping to merge.", "Use an alias of a mapping, as `<<: *name`.", line)
                )
        elif not name or name == "?":
            found.problems.append(YamlProblem("?", "a name that is not a text.", "Write `name: value`, one per line.", line))
        elif name in found.lines:
            message = f"given twice, in line {found.lines[name]} and in line {line}."
            found.problems.append(YamlProblem(name, message, "Remove one of the two.", line))
        else:
            found.lines[name] = line
            _add(found, name, value, depth, merging)
    for other in merged:  # the entries of the mapping itself win, then those of earlier ones
        if other not in (node, *merging):
            more = _entries(other, depth, (*merging, node))
            found.problems += [problem for problem in more.problems if problem not in found.problems]
            found.values = {name: value for name, value in more.values.items() if name not in found.lines} | found.values
            found.mappings = {name: value for name, value in more.mappings.items() if name not in found.lines} | found.mappings
            found.lines = more.lines | found.lines
    return found


def _add(found: Entries, name: str, node: yaml.Node, depth: int, merging: tuple[yaml.Node, ...]) -> None:
    """Add the value of `name`: a text, a list of texts, or a mapping."""
    line = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        # no deeper than the entries of one of `models`: an alias may contain itself
        found.mappings[name] = _entries(node, depth + 1, merging) if depth < _MAX_DEPTH else Entries()
        return
    items = node.value if isinstance(node, yaml.SequenceNode) else [node]
    if name in STRUCTURED:
        mappings = [item for item in items if isinstance(item, yaml.MappingNode)]
        if mappings and len(mappings) == len(items):
            found.values[name] = [_plain(found, name, _entries(item, _MAX_DEPTH - 1)) for item in mappings]
        elif (node.value and not _is_null(node)) or isinstance(node, yaml.SequenceNode):
            fix = f"Write the items of {name} as `- {{name: a, share: 0.5}}`."
            found.problems.append(YamlProblem(name, "not a list of mappings.", fix, line))
    elif wrong := [item for item in items if not isinstance(item, yaml.ScalarNode) or item.tag not in _TEXT_TAGS]:
        what = (
            f"the tag {wrong[0].tag} is not supported"
            if wrong[0].tag.startswith("!")
            else "a list with something else than texts"
        )
        found.problems.append(YamlProblem(name, f"{what}.", "Write a text, a number, true or false, or a list of texts.", line))
    elif isinstance(node, yaml.SequenceNode) and not all(item.value and not _is_null(item) for item in items):
        found.problems.append(YamlProblem(name, "a list with an empty item.", "Remove the empty item.", line))
    elif isinstance(node, yaml.SequenceNode):
        found.values[name] = [item.value for item in items]
    elif node.value and not _is_null(node):
        found.values[name] = node.value


def _plain(found: Entries, name: str, entries: Entries) -> dict[str, Any]:
    """The entries of a mapping in a list, with their own mappings. What is wrong with them is a problem of `name`."""
    for key, mapping in [("", entries), *entries.mappings.items()]:
        for problem in mapping.problems:
            place = ": ".join(part for part in (key, problem.name) if part)
            found.problems.append(YamlProblem(name, f"{place}: {problem.message}", problem.fix, problem.line))
    inner_values = {
        key: {**dict.fromkeys(one.lines, ""), **one.values, **one.mappings} for key, one in entries.mappings.items()
    }
    return {**dict.fromkeys(entries.lines, ""), **entries.values, **inner_values}


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == _NULL


def _syntax_problem(error: Exception) -> YamlProblem:
    """Without the text around the error, which may have a secret."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        message = f"is not valid YAML: line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
        return YamlProblem(
            "", message, "Write `name: value`, one per line; quote a value that has a colon or a # in it.", mark.line + 1
        )
    reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error).partition("\n")[0]
    return YamlProblem("", f"is not valid YAML: {reason}", "Write `name: value`, one per line.")
