"""The log of a run: notes, warnings, samples, groups that a job log can collapse, and the progress of training."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

import github_action_utils as actions
from tqdm import tqdm

from .github_actions import MAX_ANNOTATION, encodable, escape_commands, on_actions

if TYPE_CHECKING:  # it loads numpy, and help needs neither
    from ..training.result import Progress


def note(text: str) -> None:
    """Log a line."""
    print(escape_commands(text), flush=True)


def warn(text: str) -> None:
    """Log a warning; on Actions it becomes an annotation."""
    if on_actions():
        actions.warning(encodable(text)[:MAX_ANNOTATION], title="echoself-action")
    else:
        print(f"warning: {encodable(text)}", flush=True)


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


class ProgressPrinter:
    """Shows training progress: a bar on a terminal, a line for each logged step in a job log.

    Call it with each `Progress`. It is a context manager, which closes the bar."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None  # type: ignore[type-arg]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, progress: "Progress") -> None:
        if not sys.stderr.isatty():
            print(_line(progress), flush=True)
            return
        if self._bar is None:
            self._bar = tqdm(total=progress.end_step, unit="step", dynamic_ncols=True)
        self._bar.total = progress.end_step  # it changes with the time that is left
        self._bar.update(progress.step - self._bar.n)
        self._bar.set_postfix_str(f"loss {progress.loss:.3f}, {progress.tokens_per_second:,.0f} tokens/s")
        if progress.val_loss is not None:
            tqdm.write(_line(progress), file=sys.stdout)


def _line(progress: "Progress") -> str:
    val = "" if progress.val_loss is None else f"{progress.val_loss:.4f} nats"
    if progress.bits_per_byte is not None:
        val = f"{progress.bits_per_byte:.4f} bits/byte ({val})"
    return (
        f"step {progress.step:>{len(str(progress.end_step))}}/{progress.end_step}  loss {progress.loss:.4f}  "
        f"lr {progress.lr:.2e}  {progress.tokens_per_second:>8,.0f} tokens/s  {_duration(progress.time_left_s)} left"
        f"{'  val ' if val else ''}{val}"
    )


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
