"""Every outcome of a mode becomes an exit code here, and every error is reported."""

import errno
import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType

from .config.outputs import set_outputs
from .errors import BUG, INTERRUPTED, CheckpointError, EchoselfError, TrainingError, is_out_of_memory
from .report.github_actions import report_problem

NEW_ISSUE = "https://github.com/9cog/echoself-action/issues/new"
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


def exit_code_of(work: Callable[[], int]) -> int:
    """Run `work` and return its exit code, or the exit code of the error it raised, which is reported."""
    try:
        signal.signal(signal.SIGTERM, _interrupt)  # training installs its own handlers, to save first
        return work()
    except EchoselfError as error:
        return _report(error)
    except KeyboardInterrupt:
        print("Interrupted. Everything written so far is complete.", file=sys.stderr)
        set_outputs({"stopped_by": "signal"})
        return INTERRUPTED
    except Exception as error:
        if is_out_of_memory(error):
            return _report(_out_of_memory(error))
        if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
            place = f" ({error.filename})" if error.filename else ""
            return _report(CheckpointError(f"A file could not be written: {error.strerror}{place}.", "Free disk space."))
        traceback.print_exc()
        print(f"This is a bug in echoself-action. Please report it with the lines above: {NEW_ISSUE}", file=sys.stderr)
        return BUG


def _report(error: EchoselfError) -> int:
    report_problem(error)
    return error.exit_code


def _out_of_memory(error: Exception) -> TrainingError:
    first = str(error).strip().partition("\n")[0][:200]
    return TrainingError(
        f"Out of memory ({type(error).__name__}: {first}). Everything written so far is complete.",
        "Use a smaller model, or a machine with more memory.",
    )


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
