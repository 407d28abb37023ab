"""What GitHub Actions reads of a run: outputs, the job summary, annotations, masks. On a terminal, outputs are printed."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import github_action_utils as actions

from ..checkpoint.model_folder import ModelFolder
from ..errors import EchoselfError, InputError, MissingTokenError
from ..markdown import indented

MAX_SUMMARY_BYTES = 1_000_000  # GitHub drops a summary of more than 1 MiB, with an error
MAX_ANNOTATION = 4000  # characters; GitHub cuts at 4096
MAX_ANNOTATIONS = 10  # of a kind a step; GitHub shows no more


def on_actions() -> bool:
    return os.environ.get("GITHUB_ACTIONS") == "true"


def escape_commands(text: str) -> str:
    """`text` for a job log, with no workflow command in it.

    The runner acts on a line that begins with `::`, and on `##[` anywhere in a line.
    """
    lines = text.splitlines() or [""]  # splits at every Unicode line end: the runner may count it as one
    return "\n".join(f"| {line}" if line.lstrip().startswith("::") else line for line in lines).replace("##[", "## [")


def mask(secret: str | None) -> None:
    """Have the runner hide a secret wherever it would show, also one that is not from the repository's secrets."""
    if secret and on_actions():
        actions.add_mask(secret)


_apart: list[dict[str, str]] = []  # the innermost place that outputs go to instead


@contextmanager
def outputs_apart() -> Iterator[dict[str, str]]:
    """Inside, outputs go into this mapping alone: of several models in one step, each would write over the one before."""
    _apart.append({})
    try:
        yield _apart[-1]
    finally:
        _apart.pop()


def write_outputs(outputs: Mapping[str, str]) -> None:
    """All outputs of a run; on a terminal those that say something."""
    if _apart:
        _apart[-1].update(outputs)
        return
    if os.environ.get("GITHUB_OUTPUT"):
        for name, value in outputs.items():
            actions.set_output(name, value)
        return
    print()
    for name, value in outputs.items():
        if value:
            print(f"{name}={value}")


def write_summary(markdown: str) -> None:
    """Add to the job summary, up to where GitHub would drop all of it; on a terminal nothing, because the log has said it."""
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if not path:
        return
    written = Path(path).stat().st_size if Path(path).exists() else 0
    room = MAX_SUMMARY_BYTES - written
    content = markdown.encode()
    if len(content) > room:
        markdown = content[: max(0, room)].decode(errors="ignore") + "\n\n(cut here: GitHub shows no longer summaries)"
    actions.append_job_summary(markdown)


def report_problem(error: EchoselfError) -> None:
    """Print what went wrong; on Actions annotate the run with it, a problem each, and say it in the summary."""
    advice = _fork_advice() if isinstance(error, MissingTokenError) else ""
    told = f"{error}\n{advice}".rstrip()
    print(escape_commands(f"echoself: {told}"), file=sys.stderr)
    if on_actions():
        problems = error.problems if isinstance(error, InputError) and error.problems else (error,)
        for problem in problems[:MAX_ANNOTATIONS]:
            text = f"{problem}\n{advice}".rstrip()[:MAX_ANNOTATION]
            actions.error(text, title="echoself-action", file=problem.file, line=problem.line)
    write_summary(f"## echoself-action: not done\n\n{indented(told)}\n")


def _fork_advice() -> str:
    """What to know where a pull request of a fork finds no token: GitHub gives it none, on purpose."""
    try:
        event = json.loads(Path(os.environ["GITHUB_EVENT_PATH"]).read_bytes())
        request = event["pull_request"]
        foreign = request["head"]["repo"]["full_name"] != request["base"]["repo"]["full_name"]
    except (KeyError, TypeError, OSError, ValueError):
        return ""
    if not foreign:
        return ""
    return (
        "This run is for a pull request from a fork. GitHub gives such runs no secrets and no id token, so they can train but "
        "not publish: use mode: train here, and publish after the merge, from a push or a schedule."
    )


def model_outputs(model: ModelFolder) -> dict[str, str]:
    """The outputs that say which model it is."""
    facts = model.metadata
    losses = {name: getattr(facts, name) if facts else None for name in ("train_loss", "val_loss", "best_val_loss")}
    return {
        "checkpoint": str(model.path),
        "model_dir": str(model.path),
        "step": str(model.step),
        **{name: "" if value is None else f"{value:.6f}" for name, value in losses.items()},
    }
