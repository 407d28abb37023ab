"""The evaluator that runs the examples gives what GitHub gives."""

from typing import Any

import pytest

from .expressions import evaluate, filled

CONTEXTS: dict[str, Any] = {
    "github": {"event_name": "push", "event": {"number": 7}},
    "steps": {"first-one": {"outputs": {"deployed": "true"}}},
    "matrix": {"node": 0},
    "inputs": {},
    "functions": {"always": lambda: True},
}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("github.event_name == 'PUSH'", True),
        ("steps.first-one.outputs.deployed == 'true' && always()", True),
        ("inputs.pull_request || 'open'", "open"),
        ("matrix.node == 0 && 'a' || 'b'", "a"),
        ("matrix.node == 1 && 'a' || 'b'", "b"),
        ("!(github.event.number >= 8)", True),
        ("github['event'].number == '7'", True),
        ("github.nothing.of.this", None),
        ("'it''s'", "it's"),
        ("contains('Hello', 'ell') && startsWith('abc', 'AB')", True),
        ("fromJSON('[1, 2]')[1]", 2),
        ("format('{0}-{1}', 'a', 2)", "a-2"),
        ("null == 0", True),
        ("'' == 0", True),
        ("'x' == 0", False),
        ("true || false && false", True),
    ],
)
def test_values(expression: str, value: object) -> None:
    assert evaluate(expression, CONTEXTS) == value


def test_a_text_with_expressions_and_a_value_that_is_one() -> None:
    assert filled("a ${{ github.event.number }}-${{ matrix.none }}b", CONTEXTS) == "a 7-b"
    assert filled({"list": ["${{ fromJSON('{\"x\": [1]}') }}"]}, CONTEXTS) == {"list": [{"x": [1]}]}


@pytest.mark.parametrize("expression", ["unknown.context", "hashFiles('x')", "1 +", "a b", "github event"])
def test_what_is_not_known_is_an_error(expression: str) -> None:
    with pytest.raises((AssertionError, IndexError)):
        evaluate(expression, CONTEXTS)
