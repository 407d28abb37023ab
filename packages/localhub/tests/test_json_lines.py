"""Lines of a commit that are too long to be held in memory: their content is the same as that of short ones."""

import base64
import json

import pytest
from localhub.json_lines import MAX_SHORT

COUNT = MAX_SHORT + 100_000
HEADER = '{"key": "header", "value": {"summary": "Long"}}'
BYTES = bytes(range(256)) * (COUNT // 256)


def commit(ask, hub, content, encoding="utf-8", before="", after="", path="a.txt"):
    """A commit whose file is written in JSON as `content`, without its quotes."""
    line = f'{{"key": "file", "value": {{{before}"content": "{content}", "path": "{path}", "encoding": "{encoding}"{after}}}}}'
    return ask(hub.url, "POST", "/api/models/me/model/commit/main", f"{HEADER}\n{line}\n".encode("utf-8", "surrogatepass"))


def read(ask, hub):
    answer = ask(hub.url, "GET", "/me/model/resolve/main/a.txt")
    assert answer.status == 200
    return answer.body


@pytest.mark.parametrize("shift", range(13))
def test_escapes_and_letters_may_be_anywhere_in_a_long_text(ask, hub, repo, shift):
    r"""Blocks of the file end within each byte of é, \n, \u00e9, \ud83d\ude00, \\ and \"."""
    unit = 'é\\n\\u00e9\\ud83d\\ude00\\\\\\"\\/x'
    content = "." * shift + unit * (COUNT // len(unit))
    assert commit(ask, hub, content).status == 200
    assert read(ask, hub) == json.loads(f'"{content}"').encode()


@pytest.mark.parametrize("cut", range(4))
def test_long_base64(ask, hub, repo, cut):
    content = BYTES[: len(BYTES) - cut]
    assert commit(ask, hub, base64.b64encode(content).decode(), "base64").status == 200
    assert read(ask, hub) == content


def test_long_base64_with_escaped_slashes(ask, hub, repo):
    assert commit(ask, hub, base64.b64encode(BYTES).decode().replace("/", "\\/"), "base64").status == 200
    assert read(ask, hub) == BYTES


@pytest.mark.parametrize(
    ("content", "encoding", "reason"),
    [
        ("A" * COUNT + "=", "base64", "a.txt: the content is not base64"),
        ("A" * COUNT + "==" + "A" * COUNT, "base64", "a.txt: the content is not base64"),
        ("A" * COUNT + "\\n" + "A" * 3, "base64", "a.txt: the content is not base64"),
        ("A" * COUNT + "é", "base64", "a.txt: the content is not base64"),
        ("A" * COUNT + "\\x", "utf-8", "The request is not valid JSON"),
        ("A" * COUNT + "\\u12", "utf-8", "The request is not valid JSON"),
        ("\\u12x" + "A" * COUNT, "utf-8", "The request is not valid JSON"),
        ("A" * COUNT + "\\ud800", "utf-8", "The request is not valid JSON"),
        ("A" * COUNT + "\\udc00 ", "utf-8", "The request is not valid JSON"),
        ("A" * COUNT + "\\ud800\\u0041", "utf-8", "The request is not valid JSON"),
        ("A" * COUNT + "\ud800", "utf-8", "The request is not valid JSON"),
        ("A" * COUNT + "\n", "utf-8", "The request is not valid JSON"),
        ("A" * COUNT + "\0", "utf-8", "The request is not valid JSON"),
        ("A" * COUNT + "\\", "utf-8", "The request is not valid JSON"),
        ("A" * COUNT, "utf-16", "a.txt: unknown encoding 'utf-16'"),
        ("A" * (10 * 1024 * 1024 + 1), "utf-8", "a.txt is larger than 10485760 bytes"),
    ],
    ids=range(16),
)
def test_a_damaged_long_text_is_refused(ask, hub, api, repo, content, encoding, reason):
    answer = commit(ask, hub, content, encoding)
    assert answer.status == 400
    assert json.loads(answer.body)["error"].startswith(reason)
    assert len(api.list_repo_commits(repo)) == 1
    assert list(hub.storage.incoming.iterdir()) == []


LONG = "x" * COUNT


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("", f', "content": "{LONG}y"', f"{LONG}y"),  # as elsewhere, the last of two keys counts
        ("", ', "content": "short"', "short"),
        (f'"note": "{LONG}", ', "", LONG),
        (f'"{LONG}": 1, ', "", LONG),
        ('"note": {"content": "\\\\"}, ', " " * 3 * MAX_SHORT, LONG),
    ],
    ids=["twice", "short", "field", "name", "spaces"],
)
def test_what_else_is_in_a_long_line_does_not_matter(ask, hub, repo, before, after, expected):
    assert commit(ask, hub, LONG, before=before, after=after).status == 200
    assert read(ask, hub) == expected.encode()


def test_a_description_may_be_long(ask, hub, api, repo):
    description = "\u00fc" * 900_000
    header = json.dumps({"key": "header", "value": {"summary": "Long", "description": description}})
    line = json.dumps({"key": "file", "value": {"path": "a.txt", "content": "a"}})
    assert ask(hub.url, "POST", f"/api/models/{repo}/commit/main", f"{header}\n{line}".encode()).status == 200
    assert api.list_repo_commits(repo)[0].message == description


def test_the_metadata_of_a_long_card_is_limited_too(ask, hub, repo):
    assert commit(ask, hub, f"---\\nlicense: mit\\n---\\n{LONG}", path="README.md").status == 200
    answer = commit(ask, hub, f"---\\nlicense: {LONG}\\n---\\n", path="README.md")
    assert (answer.status, b"its metadata has" in answer.body) == (400, True)
