"""Where the action starts Python, in a container or a venv: the inputs are in ECHOSELF_INPUTS, the exit code is the result."""

import sys

from echoself_action.__main__ import run

if __name__ == "__main__":
    sys.exit(run({}))
