"""Where everything that a mode does ends: in an exit code, with what went wrong reported."""

import errno
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict
from types import FrameType

from .config.inputs import Outputs
from .errors import INTERRUPTED, CheckpointError, EchoselfError, TrainingError, is_out_of_memory
from .report.github_actions import report_problem, write_outputs

NEW_ISSUE = "https://github.com/9cog/echoself-action/issues/new"


def exit_code_of(work: Callable[[], int]) -> int:
    """The exit code that `work` gives, or that of the failure that it ends in, which is reported."""
    try:
        signal.signal(signal.SIGTERM, _interrupt)  # training takes both signals over, to save first
        return work()
    except EchoselfError as error:
        report_problem(error)
        return error.exit_code
    except KeyboardInterrupt:
        print("Interrupted. What was written before is whole.", file=sys.stderr)
        write_outputs(asdict(Outputs(stopped_by="signal")))
        return INTERRUPTED
    except OSError as error:
        if is_out_of_memory(error):
            return _no_memory(error)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            return _our_bug()
        place = f" ({error.filename})" if error.filename else ""
        report_problem(CheckpointError(f"A file could not be written: {error.strerror}{place}.", "Free disk space."))
        return CheckpointError.exit_code
    except Exception as error:  # nobody below knows it: a job gets its exit code and its outputs all the same
        return _no_memory(error) if is_out_of_memory(error) else _our_bug()


def _no_memory(error: Exception) -> int:
    first = str(error).strip().partition("\n")[0][:200]
    missing = TrainingError(
        f"There is less memory than this takes ({type(error).__name__}: {first}). What was written before is whole.",
        "Use a smaller model, or a machine with more memory.",
    )
    report_problem(missing)
    return missing.exit_code


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _our_bug() -> int:
    traceback.print_exc()
    print(f"This is a bug of echoself-action. Please report it with the lines above: {NEW_ISSUE}", file=sys.stderr)
    return 1
