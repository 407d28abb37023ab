"""Runs a module of this package that loads an exported file in its runtime, in a process of its own.

An abort or an illegal instruction in native code ends only that process, and is reported as an error about the file.
"""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import gettempdir

from ...errors import CheckpointError

_SHOWN = 5  # lines of the log
_SECONDS = 120  # the time limit of a small file
_BYTES_PER_SECOND = 5_000_000  # of a large one: 20 times as slow as GPT-2 runs on one core
_ENVIRONMENT = {"GGML_NO_BACKTRACE": "1"}  # llama.cpp would run gdb on itself, and log what that says
_FULL_DISK = ("No space left on device", "Disk quota exceeded", "File too large", "requested and")  # the last is NumPy's
_CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[\x00-\x09\x0b-\x1f\x7f]")


def run_worker(module: str, arguments: list[str], file: Path, runtime: str, form: str, seconds: float | None = None) -> None:
    """Run `module` with `arguments`. `seconds` limits it, by default by the size of `file`, which it loads in `runtime`.

    Raises CheckpointError with the end of its log if it fails.
    """
    limit = seconds or _SECONDS + file.stat().st_size / _BYTES_PER_SECOND
    command = [sys.executable, "-m", f"{__package__}.{module}", *arguments]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=limit, env=os.environ | _ENVIRONMENT
        )
        log, problem = done.stderr, _ending(done.returncode)
    except subprocess.TimeoutExpired as error:
        log, problem = error.stderr or b"", f"no answer in {limit:.0f} s"
    if not problem:
        return
    lines = [line for line in _CONTROL.sub("", log.decode("utf-8", "replace")).splitlines() if line.strip()]
    hint = f"Leave {form} out of formats, and report this as a bug."
    if problem == signal.Signals.SIGILL.name:
        hint = (
            f"This build of {runtime} needs a newer CPU (AVX2 on x86-64): use another runner, or leave {form} out of formats."
        )
    if any(words in lines[-1] for words in _FULL_DISK if lines):
        hint = f"Free disk space in {gettempdir()}, or set TMPDIR to a folder on another disk."
    raise CheckpointError(
        f"{runtime} can't run {file}: {problem}. Nothing was published. The end of its log:\n" + "\n".join(lines[-_SHOWN:]),
        hint,
    )


def _ending(code: int) -> str:
    """How a process ended, "" without an error."""
    if code >= 0:
        return f"exit code {code}" if code else ""
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
