"""Random records of the known shapes, with random further keys, nulls and nesting, and the check that no text is lost unsaid.

Each text is unique, so that it is in a document only if it was put there.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
from hypothesis import assume, reject
from hypothesis import strategies as st

from echoself_action.corpus.findings import REFUSED_BY_FAIL, Finding, shortened
from echoself_action.corpus.readers import read_documents

Record = dict[str, Any] | list[Any]
Strategy = st.SearchStrategy[Any]


def _mostly(values: Strategy, others: Strategy) -> Strategy:
    """One of `values`, and once in ten of `others`."""
    return st.integers(0, 9).flatmap(lambda die: others if die == 9 else values)


def _maybe(values: Strategy) -> Strategy:
    return _mostly(values, st.none())


_PLAIN = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
_TEXTS = _mostly(
    _PLAIN.map(lambda text: text or "t"),
    st.sampled_from(["a\r\nb", ' "quoted" ', "tab\tand\\slash", "é日本🙂", "User: x\n\nAssistant: y", ""]),
)
_ROLES = st.sampled_from(["user", "assistant", "system", "tool", "human", "gpt", "User", "ASSISTANT", "developer", "narrator"])
_NUMBERS = st.one_of(st.integers(-5, 5), st.floats(allow_nan=False, allow_infinity=False, width=32), st.booleans())
_KEYS = st.one_of(
    st.sampled_from(
        [
            "id",
            "source",
            "url",
            "meta",
            "weight",
            "name",
            "label",
            "title",
            "text",
            "tools",
            "system",
            "history",
            "type",
            "prompt",
            "completion",
            "chosen",
            "rejected",
            "messages",
            "input",
            "output",
            "reasoning_content",
            "tool_calls",
        ]
    ),
    _PLAIN.filter(bool),
)


_ANYTHING = st.recursive(
    st.one_of(_TEXTS, _NUMBERS, st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_KEYS, inner, max_size=3)),
    max_leaves=6,
)
_EXTRAS = st.dictionaries(_KEYS, _ANYTHING, max_size=3)
_CALL = st.one_of(
    st.fixed_dictionaries({"name": _TEXTS, "arguments": st.one_of(_TEXTS, _ANYTHING)}),
    st.fixed_dictionaries(
        {"id": _TEXTS, "type": st.just("function"), "function": st.fixed_dictionaries({"name": _TEXTS, "arguments": _ANYTHING})}
    ),
)
_PART = st.one_of(
    st.fixed_dictionaries({"type": st.just("text"), "text": _maybe(_TEXTS)}, optional={"cache_control": _ANYTHING}),
    st.fixed_dictionaries({"type": st.just("image_url"), "image_url": st.fixed_dictionaries({"url": _TEXTS})}),
    st.fixed_dictionaries({"type": st.just("thinking"), "thinking": _TEXTS}, optional={"signature": _TEXTS}),
    st.fixed_dictionaries({"type": st.sampled_from(["python", "python_output"]), "text": _TEXTS}),
    st.fixed_dictionaries({"type": st.just("tool_use"), "name": _TEXTS, "input": _ANYTHING}, optional={"id": _TEXTS}),
    st.fixed_dictionaries({"type": st.just("tool_result"), "content": st.one_of(_TEXTS, st.lists(_TEXTS, max_size=2))}),
    st.fixed_dictionaries({"functionCall": st.fixed_dictionaries({"name": _TEXTS, "args": _ANYTHING})}),
    st.dictionaries(_KEYS, _ANYTHING, max_size=3),
    _TEXTS,
)
_CONTENT = _maybe(st.one_of(_TEXTS, _TEXTS, st.lists(_PART, max_size=3), _PART))
_OF_A_MESSAGE: dict[str, Strategy] = {
    "name": _TEXTS,
    "weight": st.sampled_from([0, 1, 0.0, 1.0, None]),
    "train": st.booleans(),
    "reasoning_content": _maybe(_TEXTS),
    "refusal": _maybe(_TEXTS),
    "tool_calls": _maybe(st.lists(_CALL, max_size=2)),
    "function_call": _maybe(_CALL),
    "tool_call_id": _TEXTS,
}
_MESSAGE = _mostly(
    st.builds(
        lambda message, extras: extras | message,
        st.one_of(
            st.fixed_dictionaries({"role": _ROLES, "content": _CONTENT}, optional=_OF_A_MESSAGE),
            st.fixed_dictionaries({"from": _ROLES, "value": _CONTENT}, optional=_OF_A_MESSAGE),
            st.fixed_dictionaries({"role": _ROLES, "parts": st.lists(_PART, max_size=3)}),
        ),
        st.one_of(st.just({}), _EXTRAS),
    ),
    _ANYTHING,
)
_MESSAGES = _mostly(st.lists(_MESSAGE, min_size=1, max_size=4), st.just([]))
_SYSTEM = _mostly(st.one_of(_TEXTS, st.lists(_PART, max_size=2)), _ANYTHING)
_HISTORY = st.one_of(st.lists(st.lists(_maybe(_TEXTS), min_size=2, max_size=2), max_size=2), _MESSAGES)
_SIDE: dict[str, Strategy] = {
    "system": _maybe(_SYSTEM),
    "system_prompt": _TEXTS,
    "tools": _maybe(st.one_of(_TEXTS, _ANYTHING)),
    "functions": _ANYTHING,
    "history": _mostly(_HISTORY, _ANYTHING),
    "label": _maybe(st.one_of(st.booleans(), _TEXTS)),
    "title": _maybe(_TEXTS),
    "text": _maybe(_TEXTS),
    "input": _maybe(_TEXTS),
    "context": _maybe(_TEXTS),
}
_SAID = _maybe(st.one_of(_TEXTS, _TEXTS, _MESSAGES, _MESSAGE))
_SHAPES: tuple[dict[str, Strategy], ...] = (
    {"text": _maybe(_TEXTS)},
    {"title": _maybe(_TEXTS), "text": _TEXTS},
    {"messages": _MESSAGES},
    {"conversations": _MESSAGES},
    {"conversation": _MESSAGES, "prompt": _SAID},
    {"contents": _MESSAGES, "systemInstruction": st.fixed_dictionaries({"parts": st.lists(_PART, max_size=2)})},
    {"prompt": _SAID, "completion": _SAID},
    {"prompt": _SAID, "chosen": _SAID, "rejected": _SAID},
    {"chosen": _SAID, "rejected": _SAID},
    {"messages": _MESSAGES, "chosen": _SAID, "rejected": _SAID},
    {"messages": _MESSAGES, "response": _SAID},
    {
        "input": st.fixed_dictionaries({"messages": _MESSAGES}, optional={"tools": _ANYTHING}),
        "preferred_output": _SAID,
        "non_preferred_output": _SAID,
    },
    {"instruction": _maybe(_TEXTS), "input": _maybe(_TEXTS), "output": _maybe(_TEXTS)},
    {"question": _SAID, "answer": _SAID},
    {"query": _TEXTS, "response": _SAID, "output": _TEXTS},
)
_RECORD = st.one_of(
    *(
        st.builds(
            lambda record, extras: extras | record,
            st.fixed_dictionaries(shape, optional={key: side for key, side in _SIDE.items() if key not in shape}),
            st.one_of(st.just({}), _EXTRAS),
        )
        for shape in _SHAPES
    ),
    _MESSAGES,
    _EXTRAS,
)


@st.composite
def records(draw: st.DrawFn) -> Record:
    """A random record, in which each text but the names of roles and types is unique."""
    return _numbered(draw(_RECORD), iter(range(10_000)))


def _numbered(value: Any, numbers: Iterator[int], key: str = "") -> Any:
    match value:
        case dict():
            return {name: _numbered(one, numbers, name) for name, one in value.items()}
        case list():
            return [_numbered(one, numbers, key) for one in value]
        case str() if value.strip() and key not in ("role", "from", "type"):
            return f"{value}#{next(numbers)}#"
        case _:
            return value


_PART_KEYS = ("content", "value", "parts", "text", "message", "system", "systemInstruction")
_Place = tuple[str, ...]


def texts_of(value: Any, place: _Place = ()) -> Iterator[tuple[_Place, str]]:
    """The unique texts of a record, each with the keys that lead to it."""
    match value:
        case dict():
            for key, one in value.items():
                yield from texts_of(one, (*place, key))
        case list():
            for one in value:
                yield from texts_of(one, place)
        case str() if value.endswith("#"):
            yield place, value


def unreported(record: Record, path: Path) -> tuple[list[str], str]:
    """Write `record` to `path`, read it, and return its texts that are in no document and in no finding.

    Also returns what became of it: "read", or the kind of the finding, such as "skipped records". A record that Parquet can't
    hold is rejected.
    """
    if path.suffix == ".parquet":
        try:
            assume(isinstance(record, dict) and bool(record))
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist([record]), path)
        except pyarrow.ArrowException:
            reject()
    else:
        path.write_text(json.dumps(record if path.suffix == ".jsonl" else [record]), encoding="utf-8")
    findings: list[Finding] = []
    document = "\n".join(one.text for one in read_documents([path], "skip", findings.append))
    kinds = {finding.kind: finding for finding in findings}
    if not document:
        reasons = [kind for kind in (*REFUSED_BY_FAIL, "records left out") if kind in kinds]
        assert reasons, f"no document, and no reason: {findings}"
        return [], reasons[0]
    lost = [text for place, text in texts_of(record) if not _is_in(text, document) and not _is_said(place, record, kinds)]
    return lost, "read"


def _is_in(text: str, document: str) -> bool:
    text = text.strip().replace("\r\n", "\n")
    return text in document or json.dumps(text, ensure_ascii=False)[1:-1] in document.replace("\\r\\n", "\\n")


def _is_said(place: _Place, record: Record, kinds: dict[str, Finding]) -> bool:
    """Whether a finding is about this place in the record."""
    place = ("messages", *place) if isinstance(record, list) else place
    named = [one for kind, one in kinds.items() if kind.startswith(("keys ", "texts "))]
    for end in range(1, len(place) + 1):
        name = f"`{shortened('.'.join(place[:end]), 60)}`"
        if any(name in one.example or one.example.endswith("and others") for one in named):
            return True
    if place[0] in ("rejected", "non_preferred_output"):
        return "rejected answers, which are not learnt" in kinds
    is_part = any(key in place for key in _PART_KEYS)
    return ("answers left out" in kinds) or (is_part and "parts of messages without text" in kinds)
