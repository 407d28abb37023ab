import pytest

from echoself_action.corpus.findings import FileFindings, Finding
from echoself_action.corpus.records import Records

CHAT = "System: Be kind.\n\nUser: Who are you?\n\nAssistant: I am Echo."


def text_of_record(record: object, text_column: str | None = None) -> str | None:
    found = Records(FileFindings("a.jsonl"), text_column).read(record, "line 1")
    return found and found.text


@pytest.mark.parametrize(
    ("record", "text"),
    [
        ({"text": "plain\r\ntext"}, "plain\ntext"),
        (
            {
                "messages": [
                    {"role": "system", "content": "Be kind."},
                    {"role": "user", "content": [{"type": "text", "text": "Who are you?"}, {"type": "image_url"}]},
                    {"role": "assistant", "content": "I am Echo.", "tool_calls": []},
                ]
            },
            CHAT,
        ),
        (
            {
                "conversations": [
                    {"from": "system", "value": "Be kind."},
                    {"from": "human", "value": "Who are you?"},
                    {"from": "gpt", "value": "I am Echo."},
                ]
            },
            CHAT,
        ),
        ({"prompt": "The sky is", "completion": " blue."}, "The sky is blue."),
        ({"instruction": "Add.", "input": "1 and 2", "output": "3"}, "User: Add.\n\n1 and 2\n\nAssistant: 3"),
        ({"instruction": "Greet.", "input": "", "output": "Hello."}, "User: Greet.\n\nAssistant: Hello."),
        ({"text": None, "messages": [{"role": "user", "content": "Hi"}]}, "User: Hi"),
    ],
)
def test_known_shapes_become_plain_text(record: object, text: str) -> None:
    assert text_of_record(record) == text


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ("text", "is a string, not an object"),
        ({"title": "x", "body": "y"}, r"has neither `text` nor `messages` \(it has title, body\)"),
        ({"text": 5}, "has a number as `text`"),
        ({"text": " \n"}, "has an empty text"),
        ({"text": "\ud83d"}, "unpaired surrogate"),
        ({"messages": []}, "has an empty list as `messages`"),
        ({"messages": [{"content": "x"}]}, "has no `role` in message 1"),
        ({"messages": [{"role": "user", "content": 7}]}, "has a number as `content` in message 1"),
        ({"messages": [{"role": "assistant", "content": None}]}, "has null as `content` in message 1"),
        ({"prompt": "only half"}, "has `prompt` without an answer"),
        ({"role": "user", "content": "x"}, "is one message"),
        ([], "has an empty list as `messages`"),
    ],
)
def test_a_record_without_text_is_refused(record: object, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        text_of_record(record)


def test_a_refused_record_leaves_no_other_findings() -> None:
    findings = FileFindings("a.jsonl")
    with pytest.raises(ValueError, match="where a text must be"):
        Records(findings).read({"id": 5, "messages": [{"role": "assistant", "content": ""}]}, "line 1")
    found: list[Finding] = []
    findings.report_to(found.append)
    assert found == []
