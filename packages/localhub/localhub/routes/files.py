"""Downloads: a file at a revision, with the headers of that revision."""

from collections.abc import Mapping

import pygit2
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..content import content_response, in_file, in_git
from ..lfs import object_path, object_size
from ..names import parse_path
from ..refusal import Refusal
from ..repository import Repository
from ..tree import find_file
from ..web import endpoint_of, open_repo, parameter
from . import ownerless


def resolve(request: Request) -> Response:
    repository = open_repo(request, "files")
    commit = repository.resolve(_revision(request))
    return file_response(request, repository, commit, parse_path(parameter(request, "path")), {})


def raw(request: Request) -> Response:
    """What git stores: of a large file, its pointer."""
    repository = open_repo(request, "files")
    commit = repository.resolve(_revision(request))
    entry = find_file(repository, commit, parse_path(parameter(request, "path")))
    headers = {
        "X-Repo-Commit": str(commit.id),
        "ETag": f'"{entry.oid}"',
        "Content-Type": "text/plain; charset=utf-8",
        "X-Content-Type-Options": "nosniff",  # a page of a repo must not run as a page of the Hub
    }
    return content_response(request, in_git(repository, entry.oid, entry.stored_size), entry.stored_size, headers)


def file_response(
    request: Request, repository: Repository, commit: pygit2.Commit, path: str, headers: Mapping[str, str]
) -> Response:
    """The file at `path` of `commit`. Raises Refusal."""
    entry = find_file(repository, commit, path)
    headers = {**headers, "X-Repo-Commit": str(commit.id), "ETag": f'"{entry.content_oid}"'}
    if entry.pointer is None:
        return content_response(request, in_git(repository, entry.oid, entry.size), entry.size, headers)
    present = object_size(repository, entry.pointer.oid)
    if present is None:
        message = f"The content of {entry.path} does not exist any more: {entry.pointer.oid}"
        raise Refusal(404, message, "EntryNotFound", {"X-Repo-Commit": str(commit.id)})
    if present != entry.size:
        raise Refusal(500, f"The content of {entry.path} has another size: {object_path(repository, entry.pointer.oid)}")
    headers |= {"X-Linked-Etag": f'"{entry.pointer.oid}"', "X-Linked-Size": str(entry.size)}
    if entry.xet_hash:
        name = repository.name
        token = f"{endpoint_of(request)}/api/{name.kind}s/{name.id}/xet-read-token/{commit.id}"
        headers |= {"X-Xet-Hash": entry.xet_hash, "Link": f'<{token}>; rel="xet-auth"'}
    return content_response(request, in_file(object_path(repository, entry.pointer.oid)), entry.size, headers)


def _revision(request: Request) -> str:
    number = request.path_params.get("number")
    return f"refs/pr/{number}" if number is not None else parameter(request, "revision")


def _routes(prefix: str) -> list[Route]:
    return [
        Route(f"{prefix}/{{owner}}/{{name}}/{verb}/{rest}", handler, methods=["GET", "HEAD"])
        for verb, handler in (("resolve", resolve), ("raw", raw))
        for rest in ("refs/pr/{number:number}/{path:path}", "{revision}/{path:path}")
    ]


# in this order, because `datasets/name/resolve/...` also looks like a model of an owner `datasets`
routes = [*_routes("/{kind:prefix}"), ownerless.prefixed_files, *_routes(""), ownerless.files]
