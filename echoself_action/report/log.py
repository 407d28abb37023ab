"""The log of a run: notes, warnings, samples, and groups that a job log can collapse."""

from collections.abc import Iterator
from contextlib import contextmanager

import github_action_utils as actions

from .github_actions import MAX_ANNOTATION, escape_commands, on_actions


def note(text: str) -> None:
    """Log a line."""
    print(escape_commands(text), flush=True)


def warn(text: str) -> None:
    """Log a warning; on Actions it becomes an annotation."""
    if on_actions():
        actions.warning(text[:MAX_ANNOTATION], title="echoself-action")
    else:
        print(f"warning: {text}", flush=True)


def show_sample(text: str) -> None:
    """Log generated text, each line marked with a bar."""
    print("\n".join(f"  | {escape_commands(line)}" for line in text.splitlines()), flush=True)


@contextmanager
def part(title: str) -> Iterator[None]:
    """Put the lines of the block into a group of the job log; on a terminal, below a title."""
    if on_actions():
        with actions.group(title):
            yield
        return
    print(f"\n{title}", flush=True)
    yield
