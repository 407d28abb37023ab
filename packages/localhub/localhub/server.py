"""`LocalHub`: the application, served by uvicorn in a thread of this process, on loopback."""

import asyncio
import socket
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType

import uvicorn
from starlette.types import ASGIApp

from .accounts import Account, Accounts
from .app import create_app
from .storage import Storage
from .trusted_publishing import TrustedPublishing
from .users import Organisation
from .web import HubState, Limits

LOOPBACK = "127.0.0.1"
SECONDS_TO_FINISH = 5  # for requests that are running when the server stops
# The client closes idle connections after 5 s. If the server did so too, it could close one just when a request comes in.
KEEP_ALIVE = 60  # seconds
_POLL = 0.002  # seconds


class _Server(uvicorn.Server):
    """A uvicorn server that stops at once: uvicorn's own looks for the end of its work ten times a second."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Stop serving. May be called from any thread once `started` is set."""
        assert self._loop is not None
        self.should_exit = True
        self._loop.call_soon_threadsafe(self._stopping.set)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    async def main_loop(self) -> None:
        while not await self.on_tick(0):  # on_tick sets the Date header, which has a resolution of a second
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), 1)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for listener in (*self.servers, *(sockets or ())):
            listener.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()  # closes an idle connection at once, a busy one after its response
        with suppress(TimeoutError):
            async with asyncio.timeout(SECONDS_TO_FINISH):
                while self.server_state.connections or self.server_state.tasks:
                    await asyncio.sleep(_POLL)
        for task in self.server_state.tasks:
            task.cancel()


@contextmanager
def serving(app: ASGIApp, port: int = 0) -> Iterator[int]:
    """Serve an ASGI application on loopback, in a thread of this process; yields the port (0 picks a free one).

    Raises OSError if the port is taken.
    """
    # asyncio turns Nagle's algorithm off (40 ms a response) only for sockets that name their protocol
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    port = listener.getsockname()[1]
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE,
    )
    server = _Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), name="localhub", daemon=True)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise RuntimeError("The server did not start: its log has the reason")
        time.sleep(_POLL)
    try:
        yield port
    finally:
        server.stop()
        thread.join(SECONDS_TO_FINISH * 2)


class LocalHub:
    """The Hub's HTTP protocol over a folder of git repos. A context manager: inside it, `url` answers.

        with LocalHub(Path("hub")) as hub:
            HfApi(endpoint=hub.url).create_repo("me/model")

    token: gives write access to every namespace; requests without it can only read public repos. With neither `token` nor
        `accounts`, every request has full access.
    port: 0 picks a free port.
    accounts: further tokens, each with an account and its role.
    organisations: what is known of organisations beside their members: full names, and whether new repos are private.
    publishing: trusted publishers, which exchange the OIDC tokens of CI jobs for access tokens.
    origins: whose web pages may use the Hub from their scripts, such as http://localhost:5173. Without tokens, they may
        write everything.
    Raises OSError if the port is taken or the folder can't be written.
    """

    def __init__(
        self,
        folder: Path,
        token: str | None = None,
        port: int = 0,
        *,
        accounts: Mapping[str, Account] | None = None,
        organisations: Sequence[Organisation] = (),
        publishing: TrustedPublishing | None = None,
        limits: Limits | None = None,
        origins: Collection[str] = (),
    ) -> None:
        self.storage = Storage(folder)
        tokens = {**({token: Account()} if token else {}), **(accounts or {})}
        self.accounts = Accounts(tokens, self.storage.secret)
        profiles = {one.name.lower(): one for one in organisations}
        state = HubState(self.storage, self.accounts, profiles, limits or Limits(), publishing)
        self._app = create_app(state, origins)
        self._port = port
        self._exit = ExitStack()

    @property
    def url(self) -> str:
        """The endpoint, such as http://127.0.0.1:41234."""
        return f"http://{LOOPBACK}:{self._port}"

    def __enter__(self) -> "LocalHub":
        self._port = self._exit.enter_context(serving(self._app, self._port))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._exit.close()
