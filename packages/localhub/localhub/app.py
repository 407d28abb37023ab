"""The ASGI application: all routes, the error handlers, and the checks that apply to every request."""

import re
import uuid
from collections.abc import Collection, MutableMapping
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .refusal import Refusal, repo_not_found
from .routes import (
    account,
    browse,
    cards,
    clone,
    collections,
    discussions,
    files,
    gates,
    large_files,
    lfs_files,
    listings,
    ownerless,
    pages,
    people,
    references,
    repos,
    sites,
    uploads,
    xet,
)
from .spaces import SITE_HOST
from .storage import RepoMissingError
from .web import HubState

LOOPBACK_NAMES = ("127.0.0.1", "localhost")
_CONTENT = (large_files, xet, files, clone, pages, ownerless)
_PEOPLE = (account, people, gates, collections)  # before `listings`, whose `/api/{kind}` would match `/api/collections`
_SUBJECTS = (*_PEOPLE, cards, repos, uploads, lfs_files, references, discussions, listings, browse, *_CONTENT)
ROUTES = [route for subject in _SUBJECTS for route in subject.routes]
_HOST = re.compile(r"([A-Za-z0-9.-]+)(?::([0-9]{1,5}))?")
# the headers of a response that a script of another origin may read: those that clients do
_FOR_SCRIPTS = [
    "Accept-Ranges",
    "Content-Length",
    "Content-Range",
    "ETag",
    "Link",
    "Location",
    "X-Error-Code",
    "X-Error-Message",
    "X-HF-Warning",
    "X-Linked-Etag",
    "X-Linked-Size",
    "X-Repo-Commit",
    "X-Request-Id",
    "X-Total-Count",
    "X-Xet-Access-Token",
    "X-Xet-Cas-Url",
    "X-Xet-Token-Expiration",
]
_NOT_IN_HEADERS = re.compile(r"[^\x21-\x7e\xa1-\xff]+")


def create_app(state: HubState, origins: Collection[str] = ()) -> ASGIApp:
    """An ASGI application for one Hub. Web pages of these origins, such as http://localhost:5173, may use it."""
    app: ASGIApp = _application(state, ROUTES)
    if origins:
        app = CORSMiddleware(
            app,
            allow_origins=origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=_FOR_SCRIPTS,
            allow_private_network=True,
        )
    return _Gateway(app, _application(state, sites.site_routes), origins)


def _application(state: HubState, routes: list[Route]) -> Starlette:
    app = Starlette(
        routes=routes,
        exception_handlers={
            Refusal: _refused,
            RepoMissingError: _gone,
            HTTPException: _no_such_route,
            ClientDisconnect: _client_left,
            Exception: _failed,
        },
    )
    app.router.redirect_slashes = False
    app.state.hub = state
    return app


class _Gateway:
    """The outermost layer, which every request passes through.

    - It matches paths percent-encoded: in `tree/refs%2Fpr%2F1` the revision is one segment.
    - It rejects requests of web pages, because a Hub without tokens gives full access: the Host header shows DNS rebinding,
      the Origin header a form or script of another site. Origins can be allowed.
    - It adds X-Request-Id to every response; the client shows it with errors.
    - The host for static Spaces has their pages only, so that their scripts can't use the Hub.
    """

    def __init__(self, app: ASGIApp, sites: ASGIApp, origins: Collection[str]) -> None:
        self._app, self._sites, self._origins = app, sites, origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        request_id = request.headers.get("x-request-id") or request.headers.get("x-amzn-trace-id") or str(uuid.uuid4())

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode("latin-1"))]
            await send(message)

        if not _is_local(request, self._origins):
            answer = _error(Refusal(403, "This Hub accepts requests from programs on this machine only"))
            await answer(scope, receive, send_with_id)
            return
        inside: MutableMapping[str, Any] = {**scope, "path": scope["raw_path"].decode("latin-1")}
        app = self._sites if _host(request) == SITE_HOST else self._app
        await app(inside, receive, send_with_id)


def _host(request: Request) -> str | None:
    match = _HOST.fullmatch(request.headers.get("host", ""))
    return match[1].lower() if match and int(match[2] or 0) < 65536 else None


def _is_local(request: Request, origins: Collection[str]) -> bool:
    origin = request.headers.get("origin")
    return _host(request) in (*LOOPBACK_NAMES, SITE_HOST) and (
        origin is None or origin.partition("://")[2] == request.headers["host"] or origin in origins
    )


def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return _error(error)


def _gone(_: Request, __: Exception) -> Response:
    """The repo was deleted or moved during the request."""
    return _error(repo_not_found(True))


def _no_such_route(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(Refusal(error.status_code, f"No such endpoint: {error.detail}", None, error.headers))


def _client_left(_: Request, __: Exception) -> Response:
    return Response(status_code=400)  # the client has disconnected


def _failed(_: Request, __: Exception) -> Response:
    return _error(Refusal(500, "Internal error of the local Hub: see its log"))


def _error(refusal: Refusal) -> Response:
    headers = {**refusal.headers, "X-Error-Message": _header_text(refusal.message)}
    if refusal.code:
        headers["X-Error-Code"] = refusal.code
    if refusal.status == 401:
        headers.setdefault("WWW-Authenticate", 'Basic realm="localhub"')  # git asks for a password only after this header
    return JSONResponse({"error": refusal.message}, status_code=refusal.status, headers=headers)


def _header_text(message: str) -> str:
    return _NOT_IN_HEADERS.sub(" ", message.encode("latin-1", "replace").decode("latin-1")).strip()
