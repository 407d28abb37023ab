"""A Hub on this machine, from the command line: `localhub --dir FOLDER` or `python -m localhub --dir FOLDER`."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from .server import LocalHub


def main(
    argv: Sequence[str] | None = None,
    program: str = "localhub",
    folder: str = "localhub-data",
    token_variable: str = "LOCALHUB_TOKEN",  # noqa: S107  (a variable's name)
) -> int:
    """Serve until SIGINT or SIGTERM, then return 0; return 1 if the port or the folder can't be used.

    A program that contains this command passes its own name, default folder and environment variable for the token.
    """
    parser = argparse.ArgumentParser(prog=program, description="Run a Hugging Face Hub on this machine, on loopback.")
    parser.add_argument("--dir", type=Path, default=Path(folder), help="folder that holds the repos (%(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 picks a free one (%(default)s)")
    parser.add_argument(
        "--token",
        default=os.environ.get(token_variable) or None,
        help=f"token required to write and to read private repos. {token_variable} keeps it out of the process list. "
        "Without a token, every user of this machine has full access",
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
