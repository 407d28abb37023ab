"""The summary of a job that failed: what was wrong, what was therefore not done, and what to change."""

import re

from ...errors import EXIT_CODES, EchoselfError, InputError, in_short
from ...markdown import indented, prose

_FIRST_SENTENCE = re.compile(r"(.{1,140}?[^\s.]{2}\.?)(?:(?<=\.)\s+|$)")


def failure_of(error: EchoselfError, advice: str = "") -> str:
    """An error that the user can fix. `advice` follows what to change."""
    title, rest = _title_of(error.message, EXIT_CODES[error.exit_code])
    parts = [f"# Failed: {prose(title, is_start=False)}", _text(rest), *_change(error.hint), _text(advice)]
    problems = error.problems if isinstance(error, InputError) else ()
    parts += [_item(_text(problem.message), *_change(problem.hint)) for problem in problems]
    return "\n\n".join(part for part in parts if part) + "\n"


def bug_summary(error: Exception, new_issue: str) -> str:
    """An error of this program. `new_issue` is the URL to report it at."""
    found = indented(f"{type(error).__name__}: {in_short(error)}")
    return (
        f"# Failed: a bug in echoself-action\n\n{found}\n\nEverything written so far is complete.\n\n"
        f"**To do:** please [report it]({new_issue}) with the traceback at the end of the log.\n"
    )


def _title_of(message: str, kind: str) -> tuple[str, str]:
    """The first sentence of a message for the title, with short commits, and the rest; `kind` and all of it if it is long."""
    found = _FIRST_SENTENCE.match(message.partition("\n")[0])
    if not found:
        return kind, message
    return re.sub(r"\b([0-9a-f]{7})[0-9a-f]{33}\b", r"\1", found[1].rstrip(".")), message[found.end() :].strip("\n ")


def _change(hint: str) -> list[str]:
    first, _, rest = hint.partition("\n")
    return [f"**To do:** {prose(first, is_start=False)}" if first else "", indented(rest) if rest else ""]


def _item(*parts: str) -> str:
    """An item of a list."""
    lines = "\n\n".join(part for part in parts if part).splitlines()
    return "\n".join(f"{'  ' if number else '- '}{line}" if line else "" for number, line in enumerate(lines))


def _text(text: str) -> str:
    """A paragraph; with its line breaks if it has several lines."""
    return indented(text) if "\n" in text else prose(text)
