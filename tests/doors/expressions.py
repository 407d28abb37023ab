"""The expressions of workflows: https://docs.github.com/en/actions/reference/workflows-and-actions/expressions.

What is not implemented raises AssertionError, so that an example is never run with a value that GitHub would not give it.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

_TOKEN = re.compile(
    r"\s*(?:(?P<number>-?\d+(?:\.\d+)?)|'(?P<string>(?:[^']|'')*)'|(?P<name>[A-Za-z_][\w-]*)"
    r"|(?P<sign>&&|\|\||==|!=|<=|>=|[!<>().,\[\]]))"
)
_WORDS = {"true": True, "false": False, "null": None}
# from the weakest to the strongest
_BINARY = (("||",), ("&&",), ("==", "!="), ("<", "<=", ">", ">="))


def filled(text: object, contexts: Mapping[str, Any]) -> Any:
    """A value of a workflow with its expressions evaluated; a value that is nothing but an expression keeps its type."""
    if isinstance(text, Mapping):
        return {name: filled(value, contexts) for name, value in text.items()}
    if isinstance(text, list):
        return [filled(value, contexts) for value in text]
    if not isinstance(text, str):
        return text
    whole = re.fullmatch(r"\$\{\{(.*)\}\}", text.strip(), re.DOTALL)
    if whole and "${{" not in whole[1]:
        return evaluate(whole[1], contexts)
    return re.sub(r"\$\{\{(.*?)\}\}", lambda found: as_text(evaluate(found[1], contexts)), text)


def evaluate(expression: str, contexts: Mapping[str, Any]) -> Any:
    """The value of an expression without its `${{ }}`."""
    parser = _Parser(list(_tokens(expression)), contexts)
    value = parser.binary(0)
    assert not parser.tokens, f"{expression}: {parser.tokens} is left over"
    return value


def as_text(value: object) -> str:
    """As GitHub writes a value into a text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else json.dumps(value)


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    position = 0
    while position < len(text.rstrip()):
        found = _TOKEN.match(text, position)
        assert found, f"not an expression: {text[position:]!r}"
        kind = str(found.lastgroup)
        yield kind, found[kind]
        position = found.end()


def _equal(left: object, right: object) -> bool:
    """GitHub ignores case, and compares values of different types as numbers."""
    if isinstance(left, str) and isinstance(right, str):
        return left.casefold() == right.casefold()
    if type(left) is type(right):
        return left == right
    return _number(left) == _number(right)


def _number(value: object) -> float:
    try:
        return float(value or 0) if isinstance(value, str | int | float | None) else float("nan")
    except ValueError:
        return float("nan")


class _Parser:
    def __init__(self, tokens: list[tuple[str, str]], contexts: Mapping[str, Any]) -> None:
        self.tokens = tokens
        self.contexts = contexts

    def take(self, *signs: str) -> str:
        if self.tokens and self.tokens[0][0] == "sign" and self.tokens[0][1] in signs:
            return self.tokens.pop(0)[1]
        return ""

    def binary(self, level: int) -> Any:
        if level == len(_BINARY):
            return self.unary()
        left = self.binary(level + 1)
        while sign := self.take(*_BINARY[level]):
            right = self.binary(level + 1)
            match sign:
                case "||":
                    left = left or right
                case "&&":
                    left = left and right
                case "==":
                    left = _equal(left, right)
                case "!=":
                    left = not _equal(left, right)
                case _:
                    first, second = _number(left), _number(right)
                    left = {"<": first < second, "<=": first <= second, ">": first > second, ">=": first >= second}[sign]
        return left

    def unary(self) -> Any:
        return not self.unary() if self.take("!") else self.member()

    def member(self) -> Any:
        value = self.primary()
        while sign := self.take(".", "["):
            if sign == ".":
                kind, name = self.tokens.pop(0)
                assert kind == "name"
                value = value.get(name) if isinstance(value, Mapping) else None
                continue
            key = self.binary(0)
            assert self.take("]")
            value = value[int(key)] if isinstance(value, list) else (value or {}).get(key)
        return value

    def primary(self) -> Any:
        if self.take("("):
            value = self.binary(0)
            assert self.take(")")
            return value
        kind, text = self.tokens.pop(0)
        if kind == "number":
            return json.loads(text)
        if kind == "string":
            return text.replace("''", "'")
        assert kind == "name", text
        if text in _WORDS:
            return _WORDS[text]
        if self.take("("):
            return self.call(text)
        assert text in self.contexts, f"there is no context {text}"
        return self.contexts[text]

    def call(self, name: str) -> Any:
        arguments = []
        while not self.take(")"):
            arguments.append(self.binary(0))
            self.take(",")
        functions: dict[str, Callable[..., Any]] = {
            "contains": lambda text, part: (
                any(_equal(one, part) for one in text)
                if isinstance(text, list)
                else as_text(part).casefold() in as_text(text).casefold()
            ),
            "startsWith": lambda text, start: as_text(text).casefold().startswith(as_text(start).casefold()),
            "endsWith": lambda text, end: as_text(text).casefold().endswith(as_text(end).casefold()),
            "format": lambda text, *values: text.format(*map(as_text, values)),
            "join": lambda values, sign=",": sign.join(map(as_text, values)),
            "toJSON": lambda value: json.dumps(value, indent=2, ensure_ascii=False),
            "fromJSON": json.loads,
            **self.contexts.get("functions", {}),  # those of the status of the job
        }
        assert name in functions, f"there is no function {name}"
        return functions[name](*arguments)
