import pytest

from echoself_action.report.log import ProgressPrinter, note, part, show_sample, warn
from echoself_action.training.trainer import Progress

STEP = Progress(20, 200, 3.25, 3.125, 1e-3, 1234.5, 10.0, 3661.0, 1.6123)


def test_progress_in_a_job_log_is_one_line_per_logged_step(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressPrinter() as printer:
        printer(STEP)
        printer(Progress(30, 200, 3.2, None, 1e-3, 1234.5, 15.0, 90.0))
    first, second = capsys.readouterr().out.splitlines()
    line = "step  20/200  loss 3.2500  lr 1.00e-03     1,234 tokens/s  1:01:01 left  val 1.6123 bits/byte (3.1250 nats)"
    assert first == line
    assert second.endswith("1:30 left")
    assert "val" not in second


def test_part_is_a_group_on_actions_and_a_title_elsewhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with part("Training"):
        note("inside")
    assert capsys.readouterr().out == "\nTraining\ninside\n"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    with part("Training"):
        note("inside")
    opened, inside, closed = capsys.readouterr().out.splitlines()
    assert (opened.replace(" ", ""), inside, closed.replace(" ", "")) == ("::group::Training", "inside", "::endgroup::")


def test_a_warning_is_an_annotation_on_actions(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    warn("look at this")
    assert capsys.readouterr().out == "warning: look at this\n"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    warn("look at this")
    assert capsys.readouterr().out.startswith("::warning")


def test_workflow_commands_in_a_sample_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    show_sample("::error::x\n##[error]y")
    assert capsys.readouterr().out == "  | | ::error::x\n  | ## [error]y\n"
