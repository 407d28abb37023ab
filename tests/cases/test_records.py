"""Records that people bring: every text of a known shape is in the document, or a finding or an error says why not."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from echoself_action.corpus.findings import Finding
from echoself_action.corpus.readers import read_documents
from echoself_action.errors import InputError

from ..conftest import SMALL, Cli


def read(path: Path, text_column: str | None = None) -> tuple[list[str], list[str]]:
    """The documents of a file, and its findings without its name."""
    findings: list[Finding] = []
    documents = [document.text for document in read_documents([path], "fail", findings.append, text_column)]
    return documents, [str(finding).replace(f"{path}: ", "") for finding in findings]


def skipping(path: Path) -> tuple[list[str], list[str]]:
    findings: list[Finding] = []
    documents = [document.text for document in read_documents([path], "skip", findings.append)]
    return documents, [str(finding).replace(f"{path}: ", "") for finding in findings]


REPORTED: dict[str, tuple[list[str], list[str]]] = {
    "b01_sharegpt_system/odd.jsonl": (
        [
            "System: TOPSYSTEM be terse\n\nTools: [TOOLDEF]\n\nUser: Q-hello\n\nAssistant: A-hi",
            "System: SYS-IN\n\nUser: Q-hello\n\nAssistant: A-hi",
        ],
        [],
    ),
    "b02_toolcalls/odd.jsonl": (
        [
            'Tools: [{"type": "function", "function": {"name": "get_weather"}}]\n\nUser: Weather in Bergen?\n\n'
            'Assistant calls get_weather: {"city": "Bergen"}\n\nTool: rain\n\nAssistant: It rains.'
        ],
        ["keys that are not learnt (2): `messages.tool_calls.id`, `messages.tool_call_id`"],
    ),
    "b04_alpaca_history/odd.json": (
        [
            "System: SYSPROMPT pirate\n\nUser: First question\n\nAssistant: First answer\n\nUser: Second question\n\n"
            "Assistant: Second answer\n\nUser: Third question\n\nAssistant: Third answer"
        ],
        [],
    ),
    "b05_conv_role/odd.jsonl": (["User: Q\n\nAssistant: A"], []),
    "b06_msgs_from/odd.jsonl": (["User: Q\n\nAssistant: A"], []),
    "b11_text_empty_messages/odd.jsonl": (["User: Q11\n\nAssistant: A11"], []),
    "n01_nanochat/odd.jsonl": ([f"User: who are you {i}?\n\nAssistant: I am model {i}." for i in range(6)], []),
    "n05_dpo/odd.jsonl": (
        ["User: PROMPT05\n\nAssistant: GOOD05", "P05c\n\nx"],
        [
            "rejected answers, which are not learnt (2): line 1: `rejected`",
            "records left out (1): line 2 has `label`: false, so its answer is a bad one",
            "texts beside the one that is learnt (1): `text`",
        ],
    ),
}


@pytest.mark.parametrize("name", REPORTED)
def test_a_reported_file_is_read_whole(cases: Path, name: str) -> None:
    assert read(cases / "corpus" / name) == REPORTED[name]


REFUSED: dict[str, tuple[str, list[str]]] = {
    "b03b_image_only/odd.jsonl": ("line 1 has no text in `content` in message 1 of `messages`, only image_url", []),
    "b09_text_null/odd.jsonl": ("line 2 has null as `text`", ["ok one", "ok two"]),
    "b34_sharegpt_none/odd.jsonl": ("line 1 has null as `value` in message 2 of `conversations`, where a text must be", []),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_reported_file_without_a_text_is_refused_or_its_record_skipped(cases: Path, name: str) -> None:
    path = cases / "corpus" / name
    problem, documents = REFUSED[name]
    with pytest.raises(InputError) as caught:
        read(path)
    assert caught.value.message == f"{path}, {problem}, so the corpus was not read."
    assert skipping(path) == (documents, [f"skipped records (1): {problem}"])


@dataclass(frozen=True)
class Case:
    """A record, its text (None: it is left out), and the findings."""

    name: str
    record: Any
    text: str | None
    findings: tuple[str, ...] = ()
    in_parquet: bool = True


def user(text: object, **more: object) -> dict[str, object]:
    return {"role": "user", "content": text, **more}


def assistant(text: object, **more: object) -> dict[str, object]:
    return {"role": "assistant", "content": text, **more}


REJECTED = "rejected answers, which are not learnt (1): {place}: `rejected`"
QA = "User: Q\n\nAssistant: A"
CALL = {"name": "rain", "arguments": {"city": "Bergen", "days": 2}}

CASES = [
    # preference data
    Case("dpo_texts", {"prompt": "The sky is", "chosen": " blue.", "rejected": " green."}, "The sky is blue.", (REJECTED,)),
    Case(
        "dpo_messages",
        {"prompt": [user("Q")], "chosen": [assistant("A")], "rejected": [assistant("B")]},
        QA,
        (REJECTED,),
    ),
    Case(
        "dpo_implicit_prompt", {"chosen": [user("Q"), assistant("A")], "rejected": [user("Q"), assistant("B")]}, QA, (REJECTED,)
    ),
    Case(
        "hh_transcripts",
        {"chosen": "\n\nHuman: Q\n\nAssistant: A", "rejected": "\n\nHuman: Q\n\nAssistant: B"},
        "\n\nHuman: Q\n\nAssistant: A",
        (REJECTED,),
    ),
    Case(
        "hh_with_prompt",
        {
            "prompt": "\n\nHuman: Q\n\nAssistant:",
            "chosen": "\n\nHuman: Q\n\nAssistant: A",
            "rejected": "\n\nHuman: Q\n\nAssistant: B",
        },
        "\n\nHuman: Q\n\nAssistant: A",
        (REJECTED,),
    ),
    Case(
        "ultrafeedback",
        {
            "prompt": "Q",
            "prompt_id": "77",
            "chosen": [user("Q"), assistant("A")],
            "rejected": [user("Q"), assistant("B")],
            "messages": [user("Q"), assistant("A")],
            "score_chosen": 8.0,
        },
        QA,
        (REJECTED, "keys that are not learnt (2): `prompt_id`, `score_chosen`"),
    ),
    Case(
        "orca_dpo",
        {"system": "S", "question": "Q", "chosen": "A", "rejected": "B"},
        f"System: S\n\n{QA}",
        (REJECTED,),
    ),
    Case(
        "llama_factory_dpo",
        {
            "conversations": [{"from": "human", "value": "Q"}],
            "chosen": {"from": "gpt", "value": "A"},
            "rejected": {"from": "gpt", "value": "B"},
        },
        QA,
        (REJECTED,),
    ),
    Case(
        "openai_preference",
        {
            "input": {"messages": [user("Q")], "tools": [], "parallel_tool_calls": True},
            "preferred_output": [assistant("A")],
            "non_preferred_output": [assistant("B")],
        },
        QA,
        (REJECTED.replace("`rejected`", "`non_preferred_output`"), "keys that are not learnt (1): `input.parallel_tool_calls`"),
    ),
    Case("kto_good", {"prompt": "P", "completion": " C", "label": True}, "P C"),
    Case(
        "kto_bad",
        {"messages": [user("Q"), assistant("A")], "kto_tag": False},
        None,
        ("records left out (1): {place} has `kto_tag`: false, so its answer is a bad one",),
    ),
    Case(
        "text_of_a_preference",
        {"text": "Q then A", "prompt": "Q", "chosen": "A", "rejected": "B"},
        "Q then A",
        ("texts beside the one that is learnt (1): `rejected`",),
    ),
    # calls of tools
    Case(
        "function_call",
        {
            "messages": [
                user("Q"),
                assistant(None, function_call={"name": "rain", "arguments": '{"city":"Bergen"}'}),
                {"role": "function", "name": "rain", "content": "yes"},
                assistant("A"),
            ],
            "functions": [{"name": "rain", "description": "D"}],
        },
        'Tools: [{"name": "rain", "description": "D"}]\n\nUser: Q\n\nAssistant calls rain: {"city":"Bergen"}\n\n'
        "Tool (rain): yes\n\nAssistant: A",
    ),
    Case(
        "arguments_as_object",
        {"messages": [user("Q"), assistant("Let me see.", tool_calls=[CALL]), {"role": "tool", "content": "yes"}]},
        'User: Q\n\nAssistant: Let me see.\n\nAssistant calls rain: {"city": "Bergen", "days": 2}\n\nTool: yes',
    ),
    Case(
        "sharegpt_calls",
        {
            "tools": '[{"name": "rain"}]',
            "conversations": [
                {"from": "human", "value": "Q"},
                {"from": "function_call", "value": '{"name": "rain"}'},
                {"from": "observation", "value": "yes"},
                {"from": "gpt", "value": "A"},
            ],
        },
        'Tools: [{"name": "rain"}]\n\nUser: Q\n\nAssistant calls: {"name": "rain"}\n\nTool: yes\n\nAssistant: A',
    ),
    Case(
        "anthropic_tools",
        {
            "system": [{"type": "text", "text": "S"}],
            "messages": [
                user("Q"),
                assistant(
                    [
                        {"type": "text", "text": "One moment."},
                        {"type": "tool_use", "id": "t1", "name": "rain", "input": {"city": "Bergen"}},
                    ]
                ),
                user(
                    [
                        {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "yes"}]},
                        {"type": "text", "text": "Well?"},
                    ]
                ),
                assistant("A"),
            ],
        },
        'System: S\n\nUser: Q\n\nAssistant: One moment.\n\nAssistant calls rain: {"city": "Bergen"}\n\nTool: yes\n\n'
        "User: Well?\n\nAssistant: A",
        ("keys that are not learnt (2): `messages.content.id`, `messages.content.tool_use_id`",),
        in_parquet=False,
    ),
    Case(
        "gemini",
        {
            "systemInstruction": {"role": "system", "parts": [{"text": "S"}]},
            "contents": [{"role": "user", "parts": [{"text": "Q"}]}, {"role": "model", "parts": [{"text": "A"}]}],
        },
        f"System: S\n\n{QA}",
    ),
    # Alpaca and other pairs
    Case(
        "alpaca_system",
        {"instruction": "I", "input": "X", "output": "O", "system": "S"},
        "System: S\n\nUser: I\n\nX\n\nAssistant: O",
    ),
    Case("alpaca_empty_history", {"instruction": "I", "input": "", "output": "O", "history": []}, "User: I\n\nAssistant: O"),
    Case("alpaca_text", {"instruction": "I", "input": "X", "output": "O", "text": "Below: I X ### O"}, "Below: I X ### O"),
    Case(
        "dolly",
        {"instruction": "I", "context": "C", "response": "R", "category": "qa"},
        "User: I\n\nC\n\nAssistant: R",
        ("keys that are not learnt (1): `category`",),
    ),
    Case("gsm8k", {"question": "Q", "answer": "A"}, QA),
    Case(
        "open_orca",
        {"id": "x", "system_prompt": "S", "question": "Q", "response": "A"},
        f"System: S\n\n{QA}",
        ("keys that are not learnt (1): `id`",),
    ),
    Case("input_output", {"input": "Q", "output": "A"}, QA),
    Case("prompt_completion_separator", {"prompt": "Question", "completion": "Answer"}, "Question\n\nAnswer"),
    Case("prompt_completion_line", {"prompt": "Question\n", "completion": "Answer"}, "Question\nAnswer"),
    Case("prompt_messages", {"prompt": [user("Q")], "completion": [assistant("A")]}, QA),
    Case("anthropic_prompt", {"prompt": "\n\nHuman: Q\n\nAssistant:", "completion": " A"}, "\n\nHuman: Q\n\nAssistant: A"),
    # ShareGPT, roles and other chats
    Case(
        "sharegpt_weights",
        {"conversations": [{"from": "human", "value": "Q", "weight": 0}, {"from": "gpt", "value": "A", "weight": 1}]},
        QA,
    ),
    Case("roles_in_any_case", {"messages": [{"role": "USER", "content": "Q"}, {"role": "Assistant", "content": "A"}]}, QA),
    Case(
        "roles_of_others",
        {
            "conversations": [
                {"from": "Human", "value": "Q"},
                {"from": "ChatGPT", "value": "A"},
                {"from": "narrator", "value": "N"},
            ]
        },
        f"{QA}\n\nNarrator: N",
    ),
    Case("developer", {"messages": [{"role": "developer", "content": "S"}, user("Q"), assistant("A")]}, f"System: S\n\n{QA}"),
    Case("names", {"messages": [user("Q", name="ann"), assistant("A", name="")]}, "User (ann): Q\n\nAssistant: A"),
    Case(
        "same_system_twice",
        {"system": "S", "messages": [{"role": "system", "content": "S"}, user("Q"), assistant("A")]},
        f"System: S\n\n{QA}",
    ),
    Case(
        "lmsys",
        {"conversation_id": "c", "conversation": [user("Q"), assistant("A")], "redacted": False},
        QA,
        ("keys that are not learnt (2): `conversation_id`, `redacted`",),
    ),
    Case(
        "ultrachat",
        {"prompt": "Q", "prompt_id": "1", "messages": [user("Q"), assistant("A")]},
        QA,
        ("keys that are not learnt (1): `prompt_id`",),
    ),
    Case("answer_beside_messages", {"messages": [user("Q")], "response": "A"}, QA),
    Case(
        "capybara",
        {"conversation": [{"input": "Q", "output": "A"}], "source": "s"},
        QA,
        ("keys that are not learnt (1): `source`",),
    ),
    Case(
        "telegram",
        {"name": "n", "messages": [{"id": 1, "from": "Ann", "text": ["Hi ", {"type": "bold", "text": "you"}]}]},
        "Ann: Hi \n\nyou",
        ("keys that are not learnt (2): `messages.id`, `name`",),
        in_parquet=False,
    ),
    Case(
        "nanochat_python",
        [
            user("Q"),
            assistant(
                [
                    {"type": "text", "text": "Let me count."},
                    {"type": "python", "text": "1+1"},
                    {"type": "python_output", "text": "2"},
                    {"type": "text", "text": "Two."},
                ]
            ),
        ],
        "User: Q\n\nAssistant: Let me count.\n\nAssistant calls python: 1+1\n\nTool: 2\n\nAssistant: Two.",
        in_parquet=False,
    ),
    Case("nanochat_list", [user("Q"), assistant("A")], QA, in_parquet=False),
    # parts of a content, reasoning
    Case(
        "image_beside_text",
        {
            "messages": [
                user([{"type": "image_url", "image_url": {"url": "u"}}, {"type": "text", "text": "Q"}]),
                assistant([{"type": "text", "text": "A"}]),
            ]
        },
        QA,
        ("parts of messages without text (1): {place}: image_url in `content` in message 1 of `messages`",),
    ),
    Case(
        "audio_beside_text",
        {
            "messages": [
                user([{"type": "text", "text": "Q"}, {"type": "input_audio", "input_audio": {"data": "AAA"}}]),
                assistant([{"type": "text", "text": "A"}]),
            ]
        },
        QA,
        ("parts of messages without text (1): {place}: input_audio in `content` in message 1 of `messages`",),
    ),
    Case(
        "reasoning_content",
        {"messages": [user("Q"), assistant("A", reasoning_content="R")]},
        "User: Q\n\nAssistant: <think>\nR\n</think>\n\nA",
    ),
    Case(
        "thinking",
        {
            "messages": [
                user([{"type": "text", "text": "Q"}]),
                assistant([{"type": "thinking", "thinking": "R"}, {"type": "text", "text": "A"}]),
            ]
        },
        "User: Q\n\nAssistant: <think>\nR\n</think>\n\nA",
    ),
    Case("refusal", {"messages": [user("Q"), assistant(None, refusal="I won't.")]}, "User: Q\n\nAssistant: I won't."),
    # answers that must not be imitated
    Case(
        "weight_zero",
        {"messages": [user("Q"), assistant("bad", weight=0), user("Q2"), assistant("A", weight=1)]},
        "User: Q\n\nUser: Q2\n\nAssistant: A",
        ("answers left out (1): {place}: message 2 of `messages` has `weight`: 0",),
    ),
    Case(
        "only_weight_zero",
        {"messages": [user("Q"), assistant("bad", weight=0)]},
        None,
        ("records left out (1): {place} has only answers that are left out: message 2 of `messages` has `weight`: 0",),
    ),
    # text with other fields
    Case(
        "metadata",
        {"id": 7, "text": "T", "source": "s", "url": "u", "meta": {"a": [1]}},
        "T",
        ("keys that are not learnt (4): `id`, `source`, `url`, `meta`",),
    ),
    Case("empty_metadata", {"text": "T", "source": "", "url": None, "meta": {}, "tags": []}, "T", in_parquet=False),
    Case("title", {"title": "Heading", "text": "T"}, "Heading\n\nT"),
    Case("title_in_text", {"title": "Heading", "text": "# Heading\n\nT"}, "# Heading\n\nT"),
    Case(
        "text_beside_question",
        {"text": "T", "question": "Q", "answer": "A"},
        "T",
        ("texts beside the one that is learnt (2): `question`, `answer`",),
    ),
    Case("label_of_a_class", {"text": "T", "label": False}, "T", ("keys that are not learnt (1): `label`",)),
]
_PARQUET = [case for case in CASES if case.in_parquet]


def expected(case: Case, place: str) -> tuple[list[str], list[str]]:
    return [case.text] if case.text else [], [finding.replace("{place}", place) for finding in case.findings]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_record_is_read_whole_from_json_lines_and_json(tmp_path: Path, case: Case) -> None:
    lines, array = tmp_path / "a.jsonl", tmp_path / "a.json"
    lines.write_text(json.dumps(case.record) + "\n")
    array.write_text(json.dumps([case.record], indent=1))
    assert read(lines) == expected(case, "line 1")
    assert read(array) == expected(case, "record 1")


@pytest.mark.parametrize("case", _PARQUET, ids=lambda case: case.name)
def test_a_record_is_read_whole_from_parquet(tmp_path: Path, case: Case) -> None:
    """Where records have different fields, Parquet adds them as null to the others."""
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([case.record]), path)
    documents, findings = read(path)
    wanted, said = expected(case, "record 1")
    assert documents == wanted
    assert sorted(findings) == sorted(said)


def test_fields_that_parquet_adds_as_null_change_nothing(tmp_path: Path) -> None:
    records = [
        {"messages": [user("Q"), assistant(None, tool_calls=[{"id": "1", "function": {"name": "f", "arguments": {"a": 1}}}])]},
        {"messages": [user("Q2", name="ann"), assistant("A2", reasoning_content="R")], "tools": [{"name": "g"}], "id": 5},
        {"messages": [user("Q3"), assistant("A3", tool_calls=[{"function": {"name": "g", "arguments": {"b": "x"}}}])]},
    ]
    lines, parquet = tmp_path / "a.jsonl", tmp_path / "a.parquet"
    lines.write_text("".join(json.dumps(record) + "\n" for record in records))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records, _schema(records)), parquet)
    documents, findings = read(parquet)
    assert documents == read(lines)[0]
    assert documents[2] == 'User: Q3\n\nAssistant: A3\n\nAssistant calls g: {"b": "x"}'
    assert findings == ["keys that are not learnt (2): `id`, `messages.tool_calls.id`"]


def _schema(records: list[dict[str, Any]]) -> pyarrow.Schema:
    """A schema with all fields of the records, however deep."""
    columns = {key: [record[key] for record in records if key in record] for record in records for key in record}
    return pyarrow.schema([(key, pyarrow.array(values).type) for key, values in columns.items()])


def test_a_table_has_labels_of_answers_as_text(tmp_path: Path) -> None:
    path = tmp_path / "kto.csv"
    path.write_text("prompt,completion,label\nP1, good,True\nP2, bad,False\n")
    assert read(path) == (["P1 good"], ["records left out (1): row 2 has `label`: false, so its answer is a bad one"])


def test_text_that_parquet_stores_as_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": [b"bytes"]}), path)
    with pytest.raises(InputError, match="record 1 has bytes as `text`, not text"):
        read(path)


BAD: list[tuple[str, object, str]] = [
    (
        "alpaca_null_answer",
        {"instruction": "I", "input": "X", "output": None},
        "has `instruction` without an answer (it has instruction, input, output, but null as `output`)",
    ),
    (
        "empty_completion",
        {"prompt": "P", "completion": ""},
        "has `prompt` without an answer (it has prompt, completion, but an empty string as `completion`)",
    ),
    (
        "empty_answer",
        {"messages": [user("Q"), assistant("")]},
        "has an empty string as `content` in message 2 of `messages`, where a text must be",
    ),
    (
        "null_question",
        {"messages": [user(None), assistant("A")]},
        "has null as `content` in message 1 of `messages`, where a text must be",
    ),
    (
        "audio_only",
        {"messages": [user([{"type": "input_audio", "input_audio": {"data": "A"}}]), assistant("A")]},
        "has no text in `content` in message 1 of `messages`, only input_audio",
    ),
    ("null_chosen", {"prompt": "P", "chosen": None, "rejected": "B"}, "has null as `chosen`"),
    (
        "one_message",
        {"role": "user", "content": "Q"},
        "is one message; a chat is a record with a list of `messages`, or a list of messages",
    ),
    ("messages_as_text", {"messages": "[...]"}, "has a string as `messages`, not a list of messages"),
    (
        "odd_history",
        {"instruction": "I", "output": "O", "history": [["Q"]]},
        "has a list as `history` whose items are not pairs of a question and an answer",
    ),
    (
        "answer_as_object",
        {"question": "Q", "answer": {"text": ["A"]}},
        "has a list as `text` of `answer`",
    ),
    ("number_as_answer", {"question": "Q", "choices": ["a", "b"], "answer": 1}, "has a number as `answer`, not text"),
    (
        "unknown_fields",
        {"headline": "H", "body": "B"},
        "has neither `text` nor `messages` (it has headline, body); text_column can name the field with the text",
    ),
]


@pytest.mark.parametrize(("record", "problem"), [one[1:] for one in BAD], ids=[one[0] for one in BAD])
def test_a_record_that_cannot_be_read_whole_is_refused_or_skipped_with_the_reason(
    tmp_path: Path, record: object, problem: str
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "fine"}\n' + json.dumps(record) + "\n")
    with pytest.raises(InputError) as caught:
        read(path)
    assert caught.value.message == f"{path}, line 2 {problem}, so the corpus was not read."
    assert caught.value.exit_code == 2
    assert skipping(path) == (["fine"], [f"skipped records (1): line 2 {problem}"])


def test_a_key_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    for name, content in ("a.jsonl", '{"text": "one", "text": "two"}'), ("a.json", '[{"text": "x", "meta": {"a": 1, "a": 2}}]'):
        (tmp_path / name).write_text(content)
        with pytest.raises(InputError, match=r"1 has the key `(text|a)` twice"):
            read(tmp_path / name)


def test_keys_are_named_once_a_file_and_records_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": f"text {i}", "id": i, f"key{i % 30}": "v"}) + "\n" for i in range(100)))
    _, findings = read(path)
    (finding,) = findings
    assert finding.startswith("keys that are not learnt (21): `id`, `key0`, `key1`")
    assert finding.endswith("`key18` and others")


def test_text_column_names_the_field_with_the_text(tmp_path: Path) -> None:
    records = [{"body": f"body {i}", "text": "summary", "id": i} for i in range(3)]
    lines, parquet = tmp_path / "a.jsonl", tmp_path / "a.parquet"
    lines.write_text("".join(json.dumps(record) + "\n" for record in records))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), parquet)
    assert read(lines, "body")[0] == read(parquet, "body")[0] == ["body 0", "body 1", "body 2"]
    chats = tmp_path / "chats.jsonl"
    chats.write_text(json.dumps({"dialog": [user("Q"), assistant("A")]}))
    assert read(chats, "dialog") == ([QA], [])
    for path, place in (lines, ", line 1 has no `story`, which text_column names"), (parquet, " has no `story` column"):
        with pytest.raises(InputError) as caught:
            read(path, "story")
        assert caught.value.message.startswith(f"{path}{place}")


def test_the_log_and_the_summary_of_a_run_say_what_was_not_learnt(
    workspace: Path, echoself: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [{"prompt": f"P{i}", "chosen": f"C{i}", "rejected": "B", "id": i} for i in range(9)]
    (workspace / "dpo.jsonl").write_text("".join(json.dumps(record) + "\n" for record in [*records, {"text": None}]))
    echoself(f"train --data docs/*.md,dpo.jsonl --on-bad-file skip {SMALL} --max-iters 1")
    log = capsys.readouterr().out
    for line in (
        "warning: skipped records (1): dpo.jsonl: line 10 has null as `text`",
        "rejected answers, which are not learnt (9): dpo.jsonl: line 1: `rejected`",
        "keys that are not learnt (1): dpo.jsonl: `id`",
    ):
        assert log.count(line) == 1
    text = (tmp_path / "summary.md").read_text()
    assert text.startswith("# ")
    assert "- skipped records (1) in `dpo.jsonl`: `line 10 has null as 'text'`" in text
    assert "- keys that are not learnt (1) in `dpo.jsonl`: `'id'`" in text


def test_a_comparison_says_what_of_its_corpus_was_not_read(
    workspace: Path, echoself: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workspace / "more.jsonl").write_text('{"text": "A first text.", "id": 1}\n{"text": null}\n')
    data = "--data docs/*.md,more.jsonl --on-bad-file skip"
    for name in ("one", "two"):
        echoself(f"train {data} --output-dir {name} {SMALL} --max-iters 1 --seed {len(name)}")
    for held_out in workspace.glob("*/**/held_out*"):
        held_out.unlink()
    (tmp_path / "summary.md").unlink()
    echoself(f"compare --candidates one,two {data}")
    text = (tmp_path / "summary.md").read_text()
    assert " bits per byte\n" in text.partition("\n")[0] + "\n"
    assert "- skipped records (1) in `more.jsonl`: `line 2 has null as 'text'`" in text
