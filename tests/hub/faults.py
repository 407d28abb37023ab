"""A proxy between the client and a local Hub that does to some requests what networks and Hubs do to them.

    with FaultyHub(server, [Fault("POST", r"/commit/main$", lost_answer)]) as url:
        main(["deploy", "--hub", url, ...])

A plan is a list of faults: which requests (method, path, the nth of them and how many), and what happens to them. The Hub makes
its URLs from the Host header, so that uploads and downloads come through here too. A connection carries one request.
"""

import base64
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from urllib.parse import urlsplit

HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}
SILENCE = 30  # seconds that a silent Hub is silent, unless the client leaves before


@dataclass
class Answer:
    """A response of the Hub. `length` is its Content-Length, in bytes."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    length: int


@dataclass
class Exchange:
    """One request on its way: to be forwarded, as it is or changed, and answered, or not."""

    handler: BaseHTTPRequestHandler
    hub: str
    headers: dict[str, str]
    body: bytes
    random: Random

    def forward(self) -> Answer:
        connection = HTTPConnection(urlsplit(self.hub).netloc, timeout=60)
        try:
            connection.request(self.handler.command, self.handler.path, self.body, self.headers)
            answer = connection.getresponse()
            body, length = answer.read(), answer.headers.get("Content-Length")
            kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in HOP]
            return Answer(answer.status, kept, body, len(body) if length is None else int(length))
        finally:
            connection.close()

    def answer(self, answer: Answer) -> None:
        self.start(answer)
        self.handler.wfile.write(answer.body)

    def start(self, answer: Answer) -> None:
        """The status and the headers alone."""
        self.handler.send_response_only(answer.status)
        for name, value in [*answer.headers, ("Content-Length", str(answer.length)), ("Connection", "close")]:
            self.handler.send_header(name, value)
        self.handler.end_headers()

    def reset(self) -> None:
        """End the connection as a crashed machine does: the client gets ECONNRESET."""
        self.handler.wfile.flush()
        self.handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.handler.connection.close()


Effect = Callable[[Exchange], None]


@dataclass
class Fault:
    """What happens to the `nth` request (from 1) that fits, and to those after it, `times` in all."""

    method: str
    path: str
    effect: Effect
    nth: int = 1
    times: int = 1
    seen: int = field(default=0, init=False)

    def strikes(self, method: str, path: str) -> bool:
        if not (re.fullmatch(self.method, method) and re.search(self.path, path)):
            return False
        self.seen += 1
        return self.nth <= self.seen < self.nth + self.times

    @property
    def struck(self) -> bool:
        return self.seen >= self.nth


def status(code: int, **headers: str) -> Effect:
    """An error of the Hub's front; the Hub itself never sees the request."""
    named = [("Content-Type", "text/html"), *((name.replace("_", "-"), value) for name, value in headers.items())]
    return lambda exchange: exchange.answer(Answer(code, named, b"<html>no</html>", 15))


def login_page(exchange: Exchange) -> None:
    """What a network says that wants a password first: 200, and nothing of the Hub's."""
    status(200)(exchange)


def silent(exchange: Exchange) -> None:
    """The connection stays open, and no response comes."""
    exchange.handler.connection.settimeout(SILENCE)
    try:
        exchange.handler.connection.recv(1)  # b"" once the client has left
    except OSError:
        return


def reset(exchange: Exchange) -> None:
    exchange.reset()


def lost_answer(exchange: Exchange) -> None:
    """The Hub does what it is asked, and the client never hears of it."""
    exchange.forward()
    exchange.reset()


def timed_out_behind(exchange: Exchange) -> None:
    """The same with a gateway in between, which did not wait."""
    exchange.forward()
    status(504)(exchange)


def reset_mid_body(exchange: Exchange) -> None:
    answer = exchange.forward()
    exchange.start(answer)
    exchange.handler.wfile.write(answer.body[: len(answer.body) // 2])
    exchange.reset()


def truncated(exchange: Exchange) -> None:
    """The connection ends in good order, half way through the body."""
    answer = exchange.forward()
    exchange.start(answer)
    exchange.handler.wfile.write(answer.body[: len(answer.body) // 2])


def corrupted(exchange: Exchange) -> None:
    answer = exchange.forward()
    answer.body = _flipped(answer.body, exchange.random)
    exchange.answer(answer)


def corrupted_upload(exchange: Exchange) -> None:
    exchange.body = _flipped(exchange.body, exchange.random)
    exchange.answer(exchange.forward())


def damaged_card(exchange: Exchange) -> None:
    """A commit whose card is another when it arrives, in such a way that the Hub can't know."""
    lines = [json.loads(line) for line in exchange.body.splitlines()]
    [card] = [line["value"] for line in lines if line["value"].get("path") == "README.md"]
    card["content"] = base64.b64encode(_flipped(base64.b64decode(card["content"]), exchange.random)).decode()
    exchange.body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    exchange.answer(exchange.forward())


def trickle(pause: float, pieces: int = 8) -> Effect:
    """The body in pieces, `pause` seconds apart."""

    def effect(exchange: Exchange) -> None:
        answer = exchange.forward()
        exchange.start(answer)
        size = max(1, len(answer.body) // pieces)
        for begin in range(0, len(answer.body), size):
            exchange.handler.wfile.write(answer.body[begin : begin + size])
            time.sleep(pause)

    return effect


def as_token(token: str) -> Effect:
    """The Hub sees another token: one that it no longer knows, or one that may do less."""

    def effect(exchange: Exchange) -> None:
        exchange.headers["authorization"] = f"Bearer {token}"
        exchange.answer(exchange.forward())

    return effect


def meanwhile(happening: Callable[[], None]) -> Effect:
    """Something else happens before the request arrives."""

    def effect(exchange: Exchange) -> None:
        happening()
        exchange.answer(exchange.forward())

    return effect


class FaultyHub:
    """The proxy: inside the block, `url` answers as `hub` does, but for the plan."""

    def __init__(self, hub: str, plan: Sequence[Fault], seed: int = 0) -> None:
        self.requests: list[str] = []
        self.broken: list[BaseException] = []  # errors of the proxy itself
        lock, random = threading.Lock(), Random(seed)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(handler) -> None:  # noqa: N805
                exchange = Exchange(handler, hub, _forwarded(handler), _body(handler), random)
                path = urlsplit(handler.path).path
                with lock:
                    self.requests.append(f"{handler.command} {path}")
                    struck = [fault for fault in plan if fault.strikes(handler.command, path)]
                if struck:
                    struck[0].effect(exchange)
                else:
                    exchange.answer(exchange.forward())

            do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815

            def handle_one_request(handler) -> None:  # noqa: N805
                try:
                    super().handle_one_request()
                except OSError:
                    pass  # the client left, or we left it
                except Exception as error:
                    self.broken.append(error)
                handler.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads, self._server.block_on_close = True, False
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "FaultyHub":
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _forwarded(handler: BaseHTTPRequestHandler) -> dict[str, str]:
    """The headers, with the Host that the client used: the Hub makes its URLs from it."""
    return {name.lower(): value for name, value in handler.headers.items() if name.lower() not in HOP}


def _body(handler: BaseHTTPRequestHandler) -> bytes:
    if handler.headers.get("Transfer-Encoding", "").lower() != "chunked":
        return handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
    body = b""
    while size := int(handler.rfile.readline().split(b";")[0], 16):
        body += handler.rfile.read(size)
        handler.rfile.readline()
    handler.rfile.readline()
    return body


def _flipped(content: bytes, random: Random) -> bytes:
    """One bit is another, where there is one."""
    changed = bytearray(content)
    if not changed:
        return content
    changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)
