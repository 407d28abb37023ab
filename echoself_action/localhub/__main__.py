"""A Hub on this machine, from the command line: `echoself hub --dir D` or `python -m echoself_action.localhub --dir D`."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from .server import LocalHub

TOKEN_VARIABLE = "ECHOSELF_HUB_TOKEN"  # noqa: S105


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until interrupted; 0 then. 1 if the port or the folder can't be used."""
    parser = argparse.ArgumentParser(prog="echoself hub", description="Run a Hugging Face Hub on this machine, on loopback.")
    parser.add_argument("--dir", type=Path, default=Path(".echoself/hub"), help="where the repos are kept (%(default)s)")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (%(default)s)")
    parser.add_argument(
        "--token",
        default=os.environ.get(TOKEN_VARIABLE) or None,
        help=f"needed to write, and to read what is private; {TOKEN_VARIABLE} keeps it out of the list of processes. "
        "With none, everybody on this machine may do everything",
    )
    arguments = parser.parse_args(argv)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    try:
        with LocalHub(arguments.dir, arguments.token, arguments.port) as hub:
            print(_how_to_use(hub.url, arguments.dir, arguments.token is not None), flush=True)
            stopped.wait()
    except OSError as error:
        print(f"The Hub could not start on port {arguments.port} with {arguments.dir}: {error}", file=sys.stderr)
        return 1
    return 0


def _how_to_use(url: str, folder: Path, needs_token: bool) -> str:
    lines = [
        f"Hub at {url}, repos in {folder.resolve()}. Use it with huggingface_hub:",
        f"  export HF_ENDPOINT={url}",
        "  export HF_HUB_DISABLE_XET=1",
        f"  export HF_TOKEN={'<the token of this Hub>' if needs_token else 'any'}",
        "Ctrl-C stops it.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
