"""The large files of a repo: `list_lfs_files`, `permanently_delete_lfs_files`, and copies between repos."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..lfs_files import copy_objects, delete_objects, list_large_files
from ..names import OBJECT_ID, parse_repo_id
from ..refusal import bad_request
from ..web import (
    MAX_PAGE,
    Json,
    limit_of,
    open_named,
    open_repo,
    page,
    page_limit,
    start_of_page,
    state_of,
    text_field,
    with_json,
)

MAX_FILES = 1000  # in one request


def listing(request: Request) -> Response:
    repository = open_repo(request, "read")
    start, size = start_of_page(request), page_limit(request, MAX_PAGE)
    files = list_large_files(repository)
    items: list[Json] = [
        {
            "fileOid": file.oid,
            "oid": file.oid,
            "filename": file.path or file.oid,
            "size": file.size,
            "pushedAt": file.pushed_at.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z",
            **({"ref": file.ref} if file.ref else {}),
        }
        for file in files[start : start + size]
    ]
    more = {"cursor": str(start + size)} | limit_of(request) if len(files) > start + size else None
    return page(request, items, more, request.url.path)


def delete(request: Request, body: Json) -> Response:
    repository = open_repo(request, "write")
    deletions = body.get("deletions")
    if not isinstance(deletions, dict):
        raise bad_request("deletions: expected an object")
    oids = _oids(deletions.get("sha"), "sha")
    rewrite = deletions.get("rewriteHistory", True)
    if not isinstance(rewrite, bool):
        raise bad_request("rewriteHistory: expected true or false")
    with state_of(request).storage.change(repository.name) as opened:
        delete_objects(opened, oids, rewrite)
    return JSONResponse({"success": True})


def duplicate(request: Request, body: Json) -> Response:
    """Give another repo files of this one, for a commit there that names them. The files must be readable here."""
    source = open_repo(request, "files")
    target, files = body.get("target"), body.get("files")
    if not isinstance(target, dict):
        raise bad_request("target: expected an object")
    if not isinstance(files, list) or not all(isinstance(file, dict) for file in files):
        raise bad_request("files: expected a list of objects")
    oids = _oids([file.get("sha256") for file in files], "sha256")
    storage = state_of(request).storage
    name = storage.spelled(parse_repo_id(text_field(target, "type", "model"), text_field(target, "name")))
    open_named(request, name, "discuss")  # as for an upload: without a commit, an object has no effect
    with storage.change(name) as opened:
        missing = set(copy_objects(source, opened, oids, storage.incoming))
    failed = [{"sha256": oid, "error": "The file does not exist in the source repo"} for oid in oids if oid in missing]
    return JSONResponse({"success": [{"sha256": oid} for oid in oids if oid not in missing], "failed": failed})


def _oids(listed: object, key: str) -> list[str]:
    """Raises Refusal (400) unless it is a list of sha256, not longer than a request may be."""
    if not isinstance(listed, list) or len(listed) > MAX_FILES:
        raise bad_request(f"{key}: expected a list of at most {MAX_FILES}")
    for oid in listed:
        if not isinstance(oid, str) or not OBJECT_ID.fullmatch(oid):
            raise bad_request(f"{key}: expected the sha256 of a file, not {oid!r}")
    return list(dict.fromkeys(listed))


_API = "/api/{kind}/{owner}/{name}"
routes = [
    Route(_API + "/lfs-files", listing, methods=["GET"]),
    Route(_API + "/lfs-files/batch", with_json(delete), methods=["POST"]),
    Route(_API + "/lfs-files/duplicate", with_json(duplicate), methods=["POST"]),
]
