"""The checks before a run: one line each, in the log, in the output of `echoself doctor` and in the job summary."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..errors import EchoselfError
from ..markdown import escaped, table
from .job_summary.layout import fold
from .log import note, part


@dataclass(frozen=True)
class PreflightCheck:
    """What was found about a `subject`. A problem ends the run with `exit_code`; `fix` says what to change."""

    subject: str
    text: str
    level: Literal["OK", "warning", "problem"] = "OK"
    fix: str = ""
    exit_code: int = 0


def warning(subject: str, text: str, fix: str = "") -> PreflightCheck:
    return PreflightCheck(subject, text, "warning", fix)


def problem(subject: str, error: EchoselfError) -> PreflightCheck:
    """The check that a run ends at, with this error."""
    message, _, rest = str(error).partition("\n")
    return PreflightCheck(subject, message, "problem", "\n".join(line.strip() for line in rest.splitlines()), error.exit_code)


def check_lines(checks: Sequence[PreflightCheck], width: int | None = None) -> str:
    """One line for each check, and its fix below it; wrapped at `width` columns, or not at all."""
    lines = []
    for check in checks:
        head = f"{check.level:8} {check.subject:8} "
        for text in (check.text, *check.fix.splitlines()):
            first = head if text is check.text else " " * len(head)
            lines.append(first + text if width is None else textwrap.fill(
                text, width, initial_indent=first, subsequent_indent=" " * len(head), break_on_hyphens=False,
                break_long_words=False,
            ))  # fmt: skip
    return "\n".join(lines)


def show_checks(checks: Sequence[PreflightCheck]) -> None:
    """The first lines of a job's log."""
    with part("Checks"):
        note(check_lines(checks))


def checks_summary(checks: Sequence[PreflightCheck]) -> str:
    """The checks as a table of Markdown, folded."""
    rows = [(check.level, check.subject, escaped(" ".join((check.text, *check.fix.splitlines())))) for check in checks]
    return f"{fold('Checks before the run', table(('result', 'check', 'found'), rows))}\n"
