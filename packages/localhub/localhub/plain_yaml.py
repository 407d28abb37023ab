"""YAML from strangers: parsed in bounded time, into values that JSON can hold."""

import math
from collections.abc import Callable
from typing import Any

import yaml

try:
    from yaml import CSafeLoader as _SafeLoader  # ten times as fast
except ImportError:  # PyYAML was built without libyaml
    from yaml import SafeLoader as _SafeLoader  # type: ignore[assignment]

MAX_SIZE = 512 * 1024  # characters
MAX_EVENTS = 100_000  # a value is one, a list or dictionary two: takes less than a second
MAX_DEPTH = 32
MAX_NUMBER = 40  # characters


class PlainYamlError(Exception):
    """The text is not YAML, or not YAML that this Hub accepts."""


def load(text: str) -> Any:
    """None, a text, a number, a boolean, a list or a dictionary: what JSON can hold, so it can be in a response.

    Dates, infinity, NaN, binary data and numbers that are very long stay the text that they are in the file.
    Raises PlainYamlError; also for aliases, with which a small file can expand without limit.
    """
    if len(text) > MAX_SIZE:
        raise PlainYamlError(f"it has {len(text)} characters, more than {MAX_SIZE}")
    try:
        _check_events(text)
        return yaml.load(text, Loader=_PlainLoader)  # noqa: S506, a SafeLoader
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a character that UTF-8 does not have
        raise PlainYamlError(" ".join(str(error).split())) from None


def _check_events(text: str) -> None:
    """Events cost little. Constructing values costs ten times as much, and recurses. Raises PlainYamlError."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=_SafeLoader)):
        if count > MAX_EVENTS:
            raise PlainYamlError("it has too many values")
        if isinstance(event, yaml.AliasEvent):
            raise PlainYamlError("aliases are not allowed")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise PlainYamlError(f"it is nested more than {MAX_DEPTH} deep")


class _PlainLoader(_SafeLoader):
    """Constructs values that JSON can hold."""

    def plain_text(self, node: yaml.ScalarNode) -> str:
        # the parser in Python accepts "\\ud800", which can't be encoded
        return str(self.construct_scalar(node)).encode("utf-8", "replace").decode()

    def plain_set(self, node: yaml.MappingNode) -> list[Any]:
        return list(self.construct_mapping(node, deep=True))

    def plain_pairs(self, node: yaml.SequenceNode) -> Any:
        return self.construct_sequence(node, deep=True)


def _number(construct: Callable[[Any, yaml.ScalarNode], Any]) -> Callable[[_PlainLoader, yaml.ScalarNode], Any]:
    """The number or boolean, or the text if there is none, or none that JSON can hold."""

    def plain(loader: _PlainLoader, node: yaml.ScalarNode) -> Any:
        text = loader.plain_text(node)
        try:
            value = construct(loader, node) if len(text) <= MAX_NUMBER else text
        except (ValueError, LookupError, OverflowError):  # `!!int x`, `!!bool x`
            return text
        return text if isinstance(value, float) and not math.isfinite(value) else value

    return plain


_TAG = "tag:yaml.org,2002:"
_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, regex) for tag, regex in resolvers if tag != f"{_TAG}timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _name in ("str", "timestamp", "binary"):
    _PlainLoader.add_constructor(f"{_TAG}{_name}", _PlainLoader.plain_text)
for _name in ("bool", "int", "float"):
    _PlainLoader.add_constructor(f"{_TAG}{_name}", _number(getattr(_SafeLoader, f"construct_yaml_{_name}")))
_PlainLoader.add_constructor(f"{_TAG}set", _PlainLoader.plain_set)
for _name in ("omap", "pairs"):
    _PlainLoader.add_constructor(f"{_TAG}{_name}", _PlainLoader.plain_pairs)
