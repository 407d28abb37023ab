"""The action's Python program, in a container or a venv. ECHOSELF_INPUTS holds the inputs as JSON."""

import os
import sys

from echoself_action.__main__ import run


def join_output_streams() -> None:
    """Redirect stderr to stdout, here and in all child processes, with line buffering.

    Container engines interleave the two streams even within a line, and runners recognise commands at the start of a line only.
    """
    os.dup2(1, 2)
    sys.stdout = sys.stderr = open(  # noqa: SIM115  # open until the process ends
        1, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
    )


if __name__ == "__main__":
    join_output_streams()
    sys.exit(run({}))
