"""Static Spaces as web sites, on the host for sites (see spaces.py). The page of a Space, `/spaces/owner/name`, leads there."""

from urllib.parse import quote

import pygit2
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from ..card import read_front_matter
from ..names import RepoName, parse_path
from ..refusal import Refusal
from ..repository import Repository
from ..spaces import APP_FILE, CUSTOM_HEADERS, SITE_HOST, STATIC, content_type
from ..tree import find_entry
from ..web import Json, open_named, parameter, state_of
from .files import file_response


def site_url(request: Request, name: RepoName) -> str:
    """Where the site of a static Space is."""
    port = f":{request.url.port}" if request.url.port else ""
    return f"{request.url.scheme}://{SITE_HOST}{port}/{quote(name.id)}/"


def folder(request: Request) -> Response:
    """Without the slash at its end, links in the page would be relative to the owner."""
    return RedirectResponse(f"/{quote(_open(request).name.id)}/", 302)


def site(request: Request) -> Response:
    """A file of the site; for a folder, the page in it."""
    repository = _open(request)
    commit = repository.resolve("main")
    card = _card(repository, commit)
    path = parameter(request, "path")
    if path.endswith("/") or not path:
        path += str(card.get("app_file") or APP_FILE) if not path else APP_FILE
    parse_path(path)
    found = find_entry(repository, commit, path)
    if found and found.is_folder:
        return RedirectResponse(f"/{quote(repository.name.id)}/{quote(path)}/", 302)
    headers = {**_custom_headers(card), "Content-Type": content_type(path), "Cache-Control": "no-cache"}
    return file_response(request, repository, commit, path, headers)


def _open(request: Request) -> Repository:
    name = RepoName("space", parameter(request, "owner"), parameter(request, "name"))
    return open_named(request, state_of(request).storage.spelled(name), "files")


def _card(repository: Repository, commit: pygit2.Commit) -> Json:
    """The metadata of a static Space. Raises Refusal (404) for another SDK."""
    card = read_front_matter(repository.text(commit, "README.md"))
    if card.get("sdk") != STATIC:
        raise Refusal(404, f"{repository.name.id} is not a static Space: this Hub does not run its SDK, {card.get('sdk')}")
    return card


def _custom_headers(card: Json) -> dict[str, str]:
    """The headers that the Hub sends with the files of a static Space, if its card has them."""
    given = card.get("custom_headers")
    if not isinstance(given, dict):
        return {}
    return {name: given[name] for name in CUSTOM_HEADERS if _is_header_value(given.get(name))}


def _is_header_value(value: object) -> bool:
    return isinstance(value, str) and value.isascii() and value.isprintable() and value == value.strip() != ""


site_routes = [
    Route("/{owner}/{name}", folder, methods=["GET", "HEAD"]),
    Route("/{owner}/{name}/{path:path}", site, methods=["GET", "HEAD"]),
]
