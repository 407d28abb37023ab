"""A Hub on this machine, from the command line: `localhub --dir FOLDER` or `python -m localhub --dir FOLDER`."""

import argparse
import errno
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from .accounts import Account
from .server import LocalHub
from .users import Organisation, User, accounts_of, parse_organisation, parse_user

CAN_NOT_START = 2  # as argparse, for an option that is invalid
MAX_PORT = 65535
_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?")
T = TypeVar("T")


def main(
    argv: Sequence[str] | None = None,
    program: str = "localhub",
    folder: str = "localhub-data",
    token_variable: str = "LOCALHUB_TOKEN",  # noqa: S107  (a variable's name)
) -> int:
    """Serve until SIGINT or SIGTERM, then return 0; return 2 if the port or the folder can't be used.

    A program that contains this command passes its own name, default folder and environment variable for the token; the
    variable for users has the same prefix (LOCALHUB_USERS). Raises SystemExit (2) for invalid options.
    """
    users_variable = f"{token_variable.removesuffix('_TOKEN')}_USERS"
    parser = _parser(program, folder, token_variable, users_variable)
    arguments = parser.parse_args(argv)
    users: list[User] = arguments.user
    organisations: list[Organisation] = arguments.org
    try:
        users = [*map(parse_user, os.environ.get(users_variable, "").split()), *users]
    except ValueError as error:
        parser.error(f"{users_variable}: {error}")
    try:
        accounts = accounts_of(users, organisations)
    except ValueError as error:
        parser.error(str(error))
    if arguments.token in accounts:
        parser.error(f"--token is also the token of {accounts[arguments.token].name}")
    try:
        hub = LocalHub(arguments.dir, arguments.token, arguments.port, accounts=accounts, origins=arguments.origin)
    except OSError as error:
        no_folder = isinstance(error, FileExistsError | NotADirectoryError)
        found = "it is not a folder" if no_folder else f"{error.strerror}: {error.filename}"
        print(f"{program}: --dir {arguments.dir} can't be used: {found}", file=sys.stderr)
        return CAN_NOT_START
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    try:
        with hub:
            print(_how_to_use(hub.url, arguments.dir, arguments.token is not None, list(accounts.values())), flush=True)
            # Python calls the handlers in this thread, and a signal that another thread gets does not wake it
            while not stopped.wait(1):
                pass
    except OSError as error:
        reason = "it is in use" if error.errno == errno.EADDRINUSE else error.strerror
        print(
            f"{program}: --port {arguments.port} can't be used: {reason}. Without --port, it picks a free one", file=sys.stderr
        )
        return CAN_NOT_START
    return 0


def _parser(program: str, folder: str, token_variable: str, users_variable: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program,
        usage=f"{program} [--dir FOLDER] [--port PORT] [--token TOKEN] [--user NAME:TOKEN[:ROLE]] "
        "[--org NAME[:MEMBER,...]] [--origin URL]",
        description="Run a Hugging Face Hub on this machine, on loopback.",
        epilog="Without a token and users, every user of this machine has full access. Other programs see tokens of the "
        f"command line in the list of processes: {token_variable}, {users_variable} and NAME:@FILE keep them out of it.",
    )
    parser.add_argument("--dir", type=Path, default=Path(folder), metavar="FOLDER", help="holds the repos (%(default)s)")
    parser.add_argument(
        "--port", type=_typed(_port), default=0, metavar="PORT", help="port to listen on; 0 picks a free one (%(default)s)"
    )
    parser.add_argument(
        "--token",
        default=os.environ.get(token_variable) or None,
        help=f"token that may write everything, and read private repos; also {token_variable}",
    )
    parser.add_argument(
        "--user",
        type=_typed(parse_user),
        action="append",
        default=[],
        metavar="NAME:TOKEN[:ROLE]",
        help="a user and a token; NAME:@FILE reads the token from a file. ROLE: write (default), read, or "
        f"fine-grained=OWNER/NAME,... for some repos. Repeatable; also {users_variable}, separated by spaces",
    )
    parser.add_argument(
        "--org",
        type=_typed(parse_organisation),
        action="append",
        default=[],
        metavar="NAME[:MEMBER,...]",
        help="an organisation of these users, or of all. Repeatable",
    )
    parser.add_argument(
        "--origin",
        type=_typed(_origin),
        action="append",
        default=[],
        metavar="URL",
        help="a site whose pages may use this Hub from their scripts, such as http://localhost:5173. Repeatable",
    )
    return parser


def _typed(parse: Callable[[str], T]) -> Callable[[str], T]:
    """argparse shows the message of its own error only, and the value (a token) with a ValueError."""

    def parsed(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parsed


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MAX_PORT)) and int(text) <= MAX_PORT):
        raise ValueError(f"expected a number from 0 to {MAX_PORT}, not {text!r}")
    return int(text)


def _origin(text: str) -> str:
    origin = text.removesuffix("/").lower()
    if not _ORIGIN.fullmatch(origin):
        raise ValueError(f"expected the scheme, host and port of a site, such as http://localhost:5173, not {text!r}")
    return origin


def _how_to_use(url: str, folder: Path, has_token: bool, accounts: Sequence[Account]) -> str:
    owners = ", ".join([*(["--token"] if has_token else []), *(f"{account.name} ({account.role})" for account in accounts)])
    lines = [
        f"Hub at {url}, repos in {folder.resolve()}. Use it with huggingface_hub:",
        f"  export HF_ENDPOINT={url}",
        f"  export HF_TOKEN={f'<a token of this Hub: {owners}>' if owners else 'any'}",
        "Ctrl-C stops it.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
