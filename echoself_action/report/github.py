"""What GitHub Actions reads of a run: outputs, the job summary, annotations. Off Actions it is printed instead."""

import os
import sys
from collections.abc import Mapping

import github_action_utils as actions

from ..errors import EchoselfError, InputError

MAX_SUMMARY_BYTES = 1_000_000  # GitHub drops a summary of more than 1 MiB, with an error


def on_actions() -> bool:
    return os.environ.get("GITHUB_ACTIONS") == "true"


def write_outputs(outputs: Mapping[str, str]) -> None:
    """All outputs of a run; on a terminal those that say something."""
    if os.environ.get("GITHUB_OUTPUT"):
        for name, value in outputs.items():
            actions.set_output(name, value)
        return
    print()
    for name, value in outputs.items():
        if value:
            print(f"{name}={value}")


def write_summary(markdown: str) -> None:
    """The job summary, cut where GitHub would drop it; on a terminal nothing, because the log has said it."""
    if os.environ.get("GITHUB_STEP_SUMMARY"):
        content = markdown.encode()
        if len(content) > MAX_SUMMARY_BYTES:
            markdown = content[:MAX_SUMMARY_BYTES].decode(errors="ignore") + "\n\n(cut: the summary was too long)"
        actions.append_job_summary(markdown)


def report_problem(error: EchoselfError) -> None:
    """Print what went wrong, and on Actions annotate the run with it and say it in the summary."""
    print(f"echoself: {error}", file=sys.stderr)
    if on_actions():
        problems = error.problems if isinstance(error, InputError) and error.problems else (error,)
        for problem in problems[:10]:  # GitHub shows ten annotations of a kind
            actions.error(str(problem)[:4000], title="echoself-action")
    write_summary(f"## echoself-action: not done\n\n```text\n{error}\n```\n")


def print_sample(text: str) -> None:
    """Text from a model. The bar keeps a line of it from being read as a workflow command."""
    print("\n".join(f"  | {line}" for line in text.splitlines()))
