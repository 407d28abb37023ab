"""Repos: create, move, delete, settings and access checks."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..accounts import Account
from ..card import with_license
from ..commits import folders_above
from ..names import RepoName, parse_path, parse_repo_id
from ..refusal import Refusal, bad_request, forbidden
from ..spaces import initial_files
from ..web import (
    Json,
    endpoint_of,
    open_named,
    open_repo,
    repo_name,
    signed_in,
    state_of,
    text_field,
    with_json,
)
from .uploads import content_of


def create(request: Request, body: Json) -> Response:
    account, storage = signed_in(request), state_of(request).storage
    name = _new_name(request, account, _named(body, account.name))
    private = _is_private(request, body, name)
    url = f"{endpoint_of(request)}/{name.resource}"
    files = initial_files(name.name, text_field(body, "sdk")) if name.kind == "space" else {}
    if license_ := text_field(body, "license", ""):
        files["README.md"] = with_license(files.get("README.md", b""), license_)
    files |= _files(body)
    try:
        if account.may_administer(name):
            storage.create(name, private, account.name, files)
        # a token for a single repo can't create it, but must get the response for an existing repo
        elif not (account.may_write(name) and storage.exists(name)):
            raise forbidden(f"You don't have the rights to create a {name.kind} under the namespace {name.owner!r}")
        else:
            raise FileExistsError(name.id)
    except FileExistsError:
        # the client reads the URL of an existing repo from this response
        return JSONResponse({"error": f"You already created this {name.kind} repo", "url": url}, status_code=409)
    return JSONResponse({"url": url, "name": name.id, "id": name.id})


def duplicate(request: Request, body: Json) -> Response:
    """A new repo with the files of main, in one commit; it is as private as the original unless the request says otherwise."""
    account, storage = signed_in(request), state_of(request).storage
    source = open_repo(request, "files")
    target = _new_name(request, account, parse_repo_id(source.name.kind, text_field(body, "repository")))
    if not account.may_administer(target):
        raise forbidden(f"You don't have the rights to create a {target.kind} under the namespace {target.owner!r}")
    private = storage.settings(source.name).private if body.get("visibility") is None else _is_private(request, body, target)
    url = f"{endpoint_of(request)}/{target.resource}"
    try:
        storage.duplicate(source.name, target, private, account.name)
    except FileExistsError:
        return JSONResponse({"error": f"You already created this {target.kind} repo", "url": url}, status_code=409)
    return JSONResponse({"url": url, "name": target.id, "id": target.id, "filesCopyPending": False})


def delete(request: Request, body: Json) -> Response:
    name = state_of(request).storage.spelled(_named(body, signed_in(request).name))
    open_named(request, name, "administer")
    state_of(request).storage.delete(name)
    return JSONResponse({})


def move(request: Request, body: Json) -> Response:
    kind = text_field(body, "type", "model")
    source, target = (parse_repo_id(kind, text_field(body, key)) for key in ("fromRepo", "toRepo"))
    source = state_of(request).storage.spelled(source)
    open_named(request, source, "administer")
    target = _new_name(request, signed_in(request), target, is_move=True)
    if not signed_in(request).may_administer(target):
        raise forbidden(f"You don't have the rights to move a repo into the namespace {target.owner!r}")
    try:
        state_of(request).storage.move(source, target)
    except FileExistsError:
        raise Refusal(409, f"A {kind} repository called {target.id} already exists") from None
    return JSONResponse({"url": f"{endpoint_of(request)}/{target.resource}"})


def change_settings(request: Request, body: Json) -> Response:
    open_repo(request, "administer")
    changes: dict[str, bool | str] = {}
    if "gated" in body:
        if body["gated"] not in (False, "auto", "manual"):
            raise bad_request(f"gated: expected false, 'auto' or 'manual', not {body['gated']!r}")
        changes["gated"] = body["gated"]
    if "visibility" in body:
        if body["visibility"] not in ("public", "private"):
            raise bad_request(f"visibility: expected 'public' or 'private', not {body['visibility']!r}")
        changes["private"] = body["visibility"] == "private"
    state_of(request).storage.change_settings(repo_name(request), **changes)
    return JSONResponse(changes)


def check_read(request: Request) -> Response:
    open_repo(request, "files")
    return JSONResponse({})


def check_write(request: Request) -> Response:
    open_repo(request, "write")
    return JSONResponse({})


def _files(body: Json) -> dict[str, bytes]:
    """The files that a new repo is to have. Raises Refusal (400)."""
    listed = body.get("files") or []
    if not isinstance(listed, list) or not all(isinstance(file, dict) for file in listed):
        raise bad_request("files: expected a list of objects")
    files = {}
    for file in listed:
        path = parse_path(text_field(file, "path"))
        files[path] = content_of(path, file)
    for path in files:
        if any(folder in files for folder in folders_above(path)):
            raise bad_request(f"{path}: a file and a folder can't have the same path")
    return files


def _is_private(request: Request, body: Json, name: RepoName) -> bool:
    """Whether a new repo is to be private. An organisation may make its repos so by default. Raises Refusal (400)."""
    visibility, private = body.get("visibility"), body.get("private")
    if visibility not in (None, "public", "private"):
        raise bad_request(f"visibility: expected 'public' or 'private', not {visibility!r}")
    if visibility is None and not isinstance(private, bool):
        profile = state_of(request).organisations.get(name.owner.lower())
        return profile is not None and profile.private
    return visibility == "private" or private is True


def _new_name(request: Request, account: Account, name: RepoName, is_move: bool = False) -> RepoName:
    """The name of a new repo, in the namespace as its account and its other repos spell it; that of an existing one, as is.

    A move may change the case of a repo's own name.
    """
    storage = state_of(request).storage
    owner = storage.spelled_namespace(account.spelled_namespace(name.owner))
    wanted = RepoName(name.kind, owner, name.name)
    return wanted if is_move else storage.spelled(wanted)


def _named(body: Json, own_namespace: str) -> RepoName:
    return RepoName(
        text_field(body, "type", "model"), text_field(body, "organization", own_namespace), text_field(body, "name")
    )


routes = [
    Route("/api/repos/create", with_json(create), methods=["POST"]),
    Route("/api/repos/delete", with_json(delete), methods=["DELETE"]),
    Route("/api/repos/move", with_json(move), methods=["POST"]),
    Route("/api/{kind}/{owner}/{name}/duplicate", with_json(duplicate), methods=["POST"]),
    Route("/api/{kind}/{owner}/{name}/settings", with_json(change_settings), methods=["PUT"]),
    Route("/api/{kind}/{owner}/{name}/auth-check", check_read, methods=["GET"]),
    Route("/api/{kind}/{owner}/{name}/auth-check/write", check_write, methods=["GET"]),
]
