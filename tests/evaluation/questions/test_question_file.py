"""Questions are written as the training text writes the same records."""

import json
from pathlib import Path
from typing import Any

import pytest

from echoself_action.corpus.readers import read_documents
from echoself_action.evaluation.questions.question_file import question_of, read_questions
from echoself_action.evaluation.questions.question_set import Question

TURNS = [{"role": "system", "content": "Be Echo."}, {"role": "user", "content": "Who?"}]
ANSWERED = [*TURNS, {"role": "assistant", "content": "Echo.\n"}]


def read(tmp_path: Path, *records: Any) -> list[Question]:
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return read_questions([path])


@pytest.mark.parametrize(
    "record",
    [
        {"messages": ANSWERED},
        ANSWERED,
        {"conversations": [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "Echo."}]},
        {"prompt": "Who?", "completion": "Echo."},
        {"prompt": "Who is it? It is", "completion": " Echo."},
        {"prompt": "Who?", "completion": "Echo.", "system": "Be Echo."},
        {"question": "Who?", "answer": "Echo."},
        {"instruction": "Say", "input": "who.", "output": "Echo."},
    ],
)
def test_prompt_and_reference_are_the_text_of_the_record(tmp_path: Path, record: Any) -> None:
    (question,) = read(tmp_path, record)
    (document,) = read_documents([tmp_path / "questions.jsonl"], "fail", lambda _: None)
    assert document.text.rstrip() == question.prompt + question.gap + question.references[0]
    assert question.references == ("Echo.",)
    assert question_of(document) == Question(**vars(question) | {"place": document.source})


def test_references_follow_the_prompt_as_an_answer_of_the_corpus_would(tmp_path: Path) -> None:
    plain, chat, messages = read(
        tmp_path,
        {"prompt": "Who?", "references": ["Echo.", "An echo."], "distractors": ["Bo"], "dimension": "cognitive"},
        {"question": "Who?", "reference": "Echo."},
        {"messages": TURNS, "references": ["Echo."]},
    )
    assert (plain.prompt, plain.gap, plain.references) == ("Who?", "\n\n", ("Echo.", "An echo."))
    assert (plain.distractors, plain.dimension, plain.ask) == (("Bo",), "cognitive", "Who?")
    assert (chat.prompt, chat.gap) == ("User: Who?\n\nAssistant:", " ")
    assert messages.prompt == "System: Be Echo.\n\nUser: Who?\n\nAssistant:"
    assert messages.ask == "Who?"


def test_a_document_without_an_answer_is_no_question(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": "User: Who?\n\nAssistant: Echo."}) + "\n" + json.dumps({"messages": TURNS}) + "\n")
    assert [question_of(one) for one in read_documents([path], "fail", lambda _: None)] == [None, None]


def test_keys_that_are_not_used_are_named(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text('{"prompt": "a", "reference": "b", "distractor": ["c"], "persona_dimension": "dynamic", "id": 1}\n')
    found: list[str] = []
    (question,) = read_questions([path], lambda finding: found.append(finding.example))
    assert (question.distractors, question.dimension) == ((), "dynamic")
    assert found == ["`distractor`, `id`"]
