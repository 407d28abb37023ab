"""What a run says while it works: notes, warnings, samples, and groups that fold in a job log."""

from collections.abc import Iterator
from contextlib import contextmanager

import github_action_utils as actions

from .github_actions import MAX_ANNOTATION, escape_commands, on_actions


def note(text: str) -> None:
    """Say something."""
    print(escape_commands(text), flush=True)


def warn(text: str) -> None:
    """Say something that should be looked at; on Actions it becomes an annotation."""
    if on_actions():
        actions.warning(text[:MAX_ANNOTATION], title="echoself-action")
    else:
        print(f"warning: {text}", flush=True)


def show_sample(text: str) -> None:
    """Text from a model, apart from our own by a bar."""
    print("\n".join(f"  | {escape_commands(line)}" for line in text.splitlines()), flush=True)


@contextmanager
def part(title: str) -> Iterator[None]:
    """A part of the work: folded into a group in a job log, under a headline on a terminal."""
    if on_actions():
        with actions.group(title):
            yield
        return
    print(f"\n{title}", flush=True)
    yield
