"""The interface to GitHub Actions: outputs, job summary, annotations and masks. On a terminal, outputs are printed."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

import github_action_utils as actions

from ..errors import EchoselfError, InputError, MissingTokenError
from .job_summary.failure_summary import failure_of

if TYPE_CHECKING:
    from ..checkpoint.model_folder import ModelFolder

MAX_SUMMARY_BYTES = 1_000_000  # GitHub rejects a summary larger than 1 MiB
MAX_ANNOTATION = 4000  # characters; GitHub cuts at 4096
MAX_ANNOTATIONS = 10  # of each level in a step; GitHub shows no more


def on_actions() -> bool:
    return os.environ.get("GITHUB_ACTIONS") == "true"


def escape_commands(text: str) -> str:
    """`text` for a job log, with no workflow command in it.

    The runner acts on a line that begins with `::`, and on `##[` anywhere in a line.
    """
    lines = encodable(text).splitlines() or [""]  # splits at every Unicode line end: the runner may count it as one
    return "\n".join(f"| {line}" if line.lstrip().startswith("::") else line for line in lines).replace("##[", "## [")


def encodable(text: str) -> str:
    r"""`text` with `\udc80` and the like written out: what Python makes of a file name that is not UTF-8."""
    return text.encode(errors="backslashreplace").decode()


def mask(secret: str | None) -> None:
    """Hide `secret` in the job log; the runner itself hides only secrets of the repository."""
    if secret and on_actions():
        actions.add_mask(secret)


_collected: ContextVar[dict[str, str] | None] = ContextVar("collected outputs", default=None)


@contextmanager
def collect_outputs() -> Iterator[dict[str, str]]:
    """Within the block, outputs go to the mapping that it yields and are not written.

    Several models run in one step, and each would overwrite the outputs of the one before.
    """
    outputs: dict[str, str] = {}
    token = _collected.set(outputs)
    try:
        yield outputs
    finally:
        _collected.reset(token)


def write_outputs(outputs: Mapping[str, str]) -> None:
    """Write all outputs of the step; on a terminal, print those that are not empty."""
    collected = _collected.get()
    if collected is not None:
        collected.update(outputs)
        return
    if os.environ.get("GITHUB_OUTPUT"):
        for name, value in outputs.items():
            actions.set_output(name, value)
        return
    print()
    for name, value in outputs.items():
        if value:
            print(f"{name}={value}")


def summary_size() -> int:
    """The size of the job summary so far, in bytes."""
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    return Path(path).stat().st_size if path and Path(path).exists() else 0


def summary_since(position: int) -> str:
    """The job summary from a position that `summary_size` has returned."""
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    content = Path(path).read_bytes() if path and Path(path).exists() else b""
    return content[position:].decode(errors="replace")


def replace_summary(position: int, markdown: str) -> None:
    """Replace the job summary from a position that `summary_size` has returned. Does nothing on a terminal."""
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if not path:
        return
    if Path(path).exists():
        os.truncate(path, position)
    write_summary(markdown)


def write_summary(markdown: str) -> None:
    """Append to the job summary, truncated at the size that GitHub accepts. Does nothing on a terminal."""
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if not path:
        return
    room = MAX_SUMMARY_BYTES - summary_size()
    markdown = encodable(markdown)
    content = markdown.encode()
    if len(content) > room:
        markdown = content[: max(0, room)].decode(errors="ignore") + "\n\n(truncated: GitHub limits the size of a job summary)"
    actions.append_job_summary(markdown)


def report_problem(error: EchoselfError, summary_start: int | None = None) -> None:
    """Print `error`; on Actions also annotate the run, once for each problem, and write it to the job summary.

    There it is above what the run has written since `summary_start`.
    """
    advice = _fork_advice() if isinstance(error, MissingTokenError) else ""
    message = f"{error}\n{advice}".rstrip()
    print(escape_commands(f"echoself: {message}"), file=sys.stderr)
    if on_actions():
        problems = error.problems if isinstance(error, InputError) and error.problems else (error,)
        for problem in problems[:MAX_ANNOTATIONS]:
            text = encodable(f"{problem}\n{advice}".rstrip())[:MAX_ANNOTATION]
            file = problem.file and encodable(problem.file)
            actions.error(text, title="echoself-action", file=file, line=problem.line)
    write_failure(failure_of(error, advice), summary_start)


def write_failure(failure: str, summary_start: int | None = None) -> None:
    """Write a failure to the job summary, above what the run has written since `summary_start`."""
    before = "" if summary_start is None else summary_since(summary_start)
    if not before:
        write_summary(failure)
    else:
        replace_summary(summary_start or 0, f"{failure}\n{before.replace('# ', '## Before that: ', 1)}")


def _fork_advice() -> str:
    """An explanation for pull requests from forks, to which GitHub passes no secrets; "" for other runs."""
    try:
        event = json.loads(Path(os.environ["GITHUB_EVENT_PATH"]).read_bytes())
        request = event["pull_request"]
        from_fork = request["head"]["repo"]["full_name"] != request["base"]["repo"]["full_name"]
    except (KeyError, TypeError, OSError, ValueError):
        return ""
    if not from_fork:
        return ""
    return (
        "This run is for a pull request from a fork. GitHub passes no secrets and no ID token to such runs: they can train but "
        "not publish: use mode: train here, and publish after the merge, on push or on a schedule."
    )


def model_outputs(model: "ModelFolder") -> dict[str, str]:
    """The outputs that identify a model."""
    facts = model.metadata
    names = ("bits_per_byte", "train_loss", "val_loss", "best_val_loss")
    losses = {name: getattr(facts, name) if facts else None for name in names}
    return {
        "checkpoint": str(model.path),
        "model_dir": str(model.path),
        "step": str(model.step),
        **{name: "" if value is None else f"{value:.6f}" for name, value in losses.items()},
        "question_accuracy": f"{facts.questions.scores.accuracy.value:.4f}" if facts and facts.questions else "",
    }
