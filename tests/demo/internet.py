"""A stand-in for the internet, and a web server for a folder: both on loopback, and both record each request."""

import base64
import datetime
import hashlib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

CDN = "cdn.jsdelivr.net"


@dataclass(frozen=True)
class Request:
    """A request: method, host, path with query, status of the answer and number of bytes of its body."""

    method: str
    host: str
    path: str
    status: int
    size: int


@dataclass
class WebServer:
    """`url` and `port` of a server, and the requests it had. `tampered` are files (by the end of their path) to change.

    `key` is the sha256 of the public key of an HTTPS server, as Chromium's --ignore-certificate-errors-spki-list takes it.
    """

    server: HTTPServer
    key: str = ""
    requests: list[Request] = field(default_factory=list)
    tampered: set[str] = field(default_factory=set)

    @property
    def port(self) -> int:
        return int(self.server.server_port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"


class _Handler(SimpleHTTPRequestHandler):
    """As `python -m http.server`, which our documentation names, but it records."""

    protocol_version = "HTTP/1.1"
    web: WebServer

    def send_head(self):  # type: ignore[no-untyped-def]
        self.size = 0
        return super().send_head()

    def send_header(self, keyword: str, value: str) -> None:
        if keyword.lower() == "content-length":
            self.size = int(value)
        super().send_header(keyword, value)

    def log_request(self, code: int | str = "-", _size: int | str = "-") -> None:
        self.status = int(code)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def handle_one_request(self) -> None:
        self.status, self.size, self.headers = 0, 0, None  # type: ignore[assignment]
        super().handle_one_request()
        if self.headers and self.command:
            size = self.size if self.status == 200 else 0
            self.web.requests.append(Request(self.command, self.headers.get("Host", ""), self.path, self.status, size))


class _Internet(_Handler):
    """Answers as the CDN with the files of npm packages, for other hosts with 404. Pages of all origins may read them."""

    def translate_path(self, path: str) -> str:
        """The file of /npm/PACKAGE@VERSION/PATH."""
        name, _, rest = urlsplit(path).path.removeprefix("/npm/").rpartition("@")
        return super().translate_path(f"{name}/{rest.partition('/')[2]}" if path.startswith("/npm/") else "/none")

    def end_headers(self) -> None:
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Cache-Control", "public, max-age=31536000, immutable")
        super().end_headers()

    def copyfile(self, source, outputfile) -> None:  # type: ignore[no-untyped-def]
        content = source.read()
        if any(self.path.endswith(name) for name in self.web.tampered):
            content = content[:-1] + bytes([content[-1] ^ 1])
        outputfile.write(content)


@contextmanager
def serve(folder: Path) -> Iterator[WebServer]:
    """A web server for the files in `folder`."""
    with _serving(_Handler, folder) as web:
        yield web


@contextmanager
def internet(modules: Path, folder: Path) -> Iterator[WebServer]:
    """An HTTPS server for all hosts, with the npm packages in `modules`. `folder` gets its certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate, key = _certificate(folder)
    context.load_cert_chain(certificate)
    with _serving(_Internet, modules, context) as web:
        web.key = key
        yield web


@contextmanager
def _serving(handler: type[_Handler], folder: Path, context: ssl.SSLContext | None = None) -> Iterator[WebServer]:
    kind = type(handler.__name__, (handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(kind, directory=str(folder)))
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    web = kind.web = WebServer(server)  # type: ignore[attr-defined]
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _certificate(folder: Path) -> tuple[Path, str]:
    """A file with a key and a certificate that it signed itself, and the sha256 of its public key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, CDN)])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    day = datetime.timedelta(days=1)
    builder = builder.not_valid_before(now - day).not_valid_after(now + day)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(CDN)]), critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    path = folder / "certificate.pem"
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return path, base64.b64encode(hashlib.sha256(public).digest()).decode()
