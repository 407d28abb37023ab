"""A Hub that runs: uvicorn in a thread of this process, on loopback."""

import socket
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import uvicorn

from .accounts import Account, Accounts
from .app import create_app
from .storage import Storage
from .trusted_publishing import TrustedPublishing
from .web import HubState, Limits

LOOPBACK = "127.0.0.1"
SECONDS_TO_FINISH = 5


class LocalHub:
    """The Hub's HTTP protocol over a folder of git repos. A context manager: inside it, `url` answers.

        with LocalHub(Path("hub")) as hub:
            HfApi(endpoint=hub.url).create_repo("me/model")

    token: whoever has it owns every namespace; everybody else reads what is public. With neither `token` nor `accounts`
        everybody owns everything, which suits a Hub on one's own machine.
    port: 0 takes a free one.
    accounts: more tokens, with what each may do.
    publishing: trusted publishers, for keyless tokens.
    Raises OSError if the port is taken or the folder can't be written.
    """

    def __init__(
        self,
        folder: Path,
        token: str | None = None,
        port: int = 0,
        *,
        accounts: Mapping[str, Account] | None = None,
        publishing: TrustedPublishing | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.storage = Storage(folder)
        tokens = {**({token: Account()} if token else {}), **(accounts or {})}
        state = HubState(self.storage, Accounts(tokens, self.storage.secret), limits or Limits(), publishing)
        self._app = create_app(state)
        self._port = port
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The endpoint, such as http://127.0.0.1:41234."""
        return f"http://{LOOPBACK}:{self._port}"

    def __enter__(self) -> "LocalHub":
        # asyncio turns Nagle's algorithm off (40 ms an answer) only for sockets that name their protocol
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, self._port))
            listener.listen(128)
        except OSError:
            listener.close()
            raise
        self._port = listener.getsockname()[1]
        config = uvicorn.Config(
            self._app,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=SECONDS_TO_FINISH,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name="localhub", daemon=True)
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise RuntimeError("The local Hub did not start: its log says why")
            time.sleep(0.002)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._server is not None
        assert self._thread is not None
        self._server.should_exit = True
        self._thread.join(SECONDS_TO_FINISH * 2)
