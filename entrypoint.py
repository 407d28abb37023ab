"""Where the action starts Python, in a container or a venv: the inputs are in ECHOSELF_INPUTS, the exit code is the result."""

import os
import sys

from echoself_action.__main__ import run


def speak_on_one_stream() -> None:
    """Join stderr with stdout, here and in all processes to come, and write whole lines.

    A container's engine puts two streams together as they come, also within a line, where a runner reads no command.
    """
    os.dup2(1, 2)
    sys.stdout = sys.stderr = open(  # noqa: SIM115  # for as long as the process is there
        1, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
    )


if __name__ == "__main__":
    speak_on_one_stream()
    sys.exit(run({}))
