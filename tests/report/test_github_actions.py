import json
from pathlib import Path
from typing import Any

import pytest

from echoself_action.errors import CheckpointError, InputError, MissingTokenError
from echoself_action.report.github_actions import (
    MAX_SUMMARY_BYTES,
    escape_commands,
    mask,
    report_problem,
    write_outputs,
    write_summary,
)

COMMANDS = [
    "::error::x",
    "  ::set-output name=a::b",
    "fine\n::add-mask::x",
    "fine\r::stop-commands::x",
    "a\u2028::debug::x",
    "##[group]x",
]


@pytest.fixture
def summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The environment of a job on Actions; its summary file."""
    path = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "outputs"))
    return path


def test_a_multiline_value_is_one_output(summary: Path, tmp_path: Path) -> None:
    write_outputs({"one": "a\nb=c\n", "none": ""})
    text = (tmp_path / "outputs").read_text()
    delimiter = text.split("<<")[1].split("\n")[0]
    assert text.startswith(f"one<<{delimiter}\na\nb=c\n\n{delimiter}\n")
    assert "none<<" in text


def test_the_summary_is_truncated_at_githubs_limit(summary: Path) -> None:
    for _ in range(3):
        write_summary("é" * 400_000)
    assert MAX_SUMMARY_BYTES <= summary.stat().st_size < 2**20
    assert "truncated" in summary.read_text()


def test_each_problem_is_an_annotation_with_file_and_hint(summary: Path, capsys: pytest.CaptureFixture[str]) -> None:
    problems = [InputError("a is wrong", "Change a.", file="conf.yml"), InputError("b is wrong", "Change b.")]
    report_problem(InputError("2 inputs are wrong.", problems=problems))
    annotations = [line for line in capsys.readouterr().out.splitlines() if line.startswith("::error")]
    assert len(annotations) == 2
    assert "file=conf.yml" in annotations[0]
    assert annotations[0].endswith("::a is wrong%0A  Change a.")
    assert summary.read_text() == (
        "# Failed: 2 inputs are wrong\n\n- a is wrong\n\n  **To do:** Change a.\n\n- b is wrong\n\n  **To do:** Change b.\n\n"
    )


def test_at_most_ten_annotations_and_the_summary_lists_all(summary: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report_problem(InputError("wrong", problems=[InputError(f"input {number}") for number in range(12)]))
    assert capsys.readouterr().out.count("::error") == 10
    assert "input 11" in summary.read_text()


def test_an_error_message_is_escaped_in_log_and_summary(summary: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report_problem(CheckpointError("bad\n::add-mask::x\n```\n# title\n##[error]y"))
    captured = capsys.readouterr()
    assert [line for line in captured.out.splitlines() if line] == [captured.out.strip()]
    assert not [line for line in captured.err.splitlines() if line.startswith("::") or "##[" in line]
    assert not [line for line in summary.read_text().splitlines()[2:] if line and not line.startswith("    ")]


@pytest.mark.parametrize(("head", "explained"), [("stranger/repo", True), ("owner/repo", False)])
def test_a_missing_token_in_a_pull_request_from_a_fork_is_explained(
    summary: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, head: str, explained: bool
) -> None:
    repos: Any = {"head": {"repo": {"full_name": head}}, "base": {"repo": {"full_name": "owner/repo"}}}
    event = tmp_path / "event.json"
    event.write_text(json.dumps({"pull_request": repos}))
    monkeypatch.setenv("GITHUB_EVENT_PATH", str(event))
    report_problem(MissingTokenError("no token"))
    assert ("pull request from a fork" in summary.read_text()) is explained


def test_secrets_are_masked_on_actions_and_not_printed_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mask("hf_secret")
    assert capsys.readouterr().out == ""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    mask("hf_secret")
    assert capsys.readouterr().out.replace(" ", "") == "::add-mask::hf_secret\n"


@pytest.mark.parametrize("text", COMMANDS)
def test_workflow_commands_in_text_are_escaped(text: str) -> None:
    shown = escape_commands(text)
    for line in shown.replace("\r", "\n").replace("\u2028", "\n").split("\n"):
        assert not line.lstrip().startswith("::")
        assert "##[" not in line


def test_text_without_commands_is_unchanged() -> None:
    assert escape_commands("step 1: a::b\n\nmore # text") == "step 1: a::b\n\nmore # text"
