"""What a run says while it works: notes, warnings, and groups that fold in a job log."""

from collections.abc import Iterator
from contextlib import contextmanager

import github_action_utils as actions

from .github import on_actions


def note(text: str) -> None:
    """Say something."""
    print(text, flush=True)


def warn(text: str) -> None:
    """Say something that should be looked at; on Actions it becomes an annotation."""
    if on_actions():
        actions.warning(text[:4000], title="echoself-action")
    else:
        print(f"warning: {text}", flush=True)


@contextmanager
def part(title: str) -> Iterator[None]:
    """A part of the work: folded into a group in a job log, under a headline on a terminal."""
    if on_actions():
        with actions.group(title):
            yield
        return
    print(f"\n{title}", flush=True)
    yield
