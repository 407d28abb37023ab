"""Every outcome of a mode becomes an exit code here, and every error is reported."""

import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from types import FrameType

from .config.inputs import Inputs
from .config.outputs import set_outputs
from .errors import BUG, INTERRUPTED, CheckpointError, EchoselfError, TrainingError, is_out_of_memory
from .github.workflow_schedule import schedule_notice
from .input_field import PUBLISHES
from .report.github_actions import report_problem, summary_since, summary_size, write_failure, write_summary
from .report.job_summary.failure_summary import bug_summary
from .report.log import warn
from .report.summary_comment import comment_summary
from .training.distributed.rank import is_worker

NEW_ISSUE = "https://github.com/9cog/echoself-action/issues/new"
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


def exit_code_of(work: Callable[[], int]) -> int:
    """Run `work` and return its exit code, or the exit code of the error it raised, which is reported."""
    start = summary_size()
    try:
        signal.signal(signal.SIGTERM, _interrupt)  # training installs its own handlers, to save first
        return work()
    except EchoselfError as error:
        return _report(error, start)
    except KeyboardInterrupt:
        print("Interrupted. Everything written so far is complete.", file=sys.stderr)
        set_outputs({"stopped_by": "signal"})
        return INTERRUPTED
    except Exception as error:
        if is_out_of_memory(error):
            return _report(_out_of_memory(error), start)
        if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
            place = f" ({error.filename})" if error.filename else ""
            return _report(CheckpointError(f"A file could not be written: {error.strerror}{place}.", "Free disk space."), start)
        traceback.print_exc()
        write_failure(bug_summary(error, NEW_ISSUE), start)
        print(f"This is a bug in echoself-action. Please report it with the lines above: {NEW_ISSUE}", file=sys.stderr)
        return BUG


def exit_code_of_model(inputs: Inputs, work: Callable[[], int]) -> int:
    """The exit code of `work`, the run of one model. With `comment`, its job summary becomes a comment on the pull request.

    An interrupted run writes none: a runner that cancels gives it a few seconds, which saving needs.
    """
    start = summary_size()
    code = exit_code_of(work)
    if code != INTERRUPTED:
        _comment(inputs, start)
    return code


def exit_code_of_invalid_inputs(error: EchoselfError, models: Iterable[Inputs]) -> int:
    """The exit code of `error`, which is reported, also in the comments of the `models` with these valid inputs."""
    start = summary_size()
    code = _report(error, start)
    for inputs in models:
        if inputs.repo_id or inputs.mode not in PUBLISHES:  # else it is the invalid one, which the comment is found by
            _comment(inputs, start)
    return code


def _comment(inputs: Inputs, start: int) -> None:
    """Comment the summary since it had the size `start`, if `inputs` ask for it."""
    if inputs.comment and not is_worker():
        model = f"{inputs.repo_id}@{inputs.revision}" if inputs.repo_id else str(inputs.output_dir)
        comment_summary(model, summary_since(start))


def report_schedule() -> None:
    """Warn if GitHub is about to stop the schedule that started this job."""
    if not is_worker() and (notice := schedule_notice(os.environ)):
        warn(notice)
        write_summary(f"> {notice}\n")


def _report(error: EchoselfError, summary_start: int) -> int:
    report_problem(error, summary_start)
    return error.exit_code


def _out_of_memory(error: Exception) -> TrainingError:
    first = str(error).strip().partition("\n")[0][:200]
    return TrainingError(
        f"Out of memory ({type(error).__name__}: {first}). Everything written so far is complete.",
        "Use a smaller model, or a machine with more memory.",
    )


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
