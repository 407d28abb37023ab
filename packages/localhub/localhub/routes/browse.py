"""Repo info, trees and history."""

from collections.abc import Iterable
from itertools import islice
from typing import Any
from urllib.parse import parse_qs, quote

import pygit2
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..description import EXPANDABLE, INFO, Description, date
from ..names import parse_path
from ..refusal import bad_request
from ..repository import Repository
from ..tree import Entry, find_entry, last_commits, list_entries
from ..web import (
    MAX_PAGE,
    Json,
    body_of,
    children_of_model,
    expanded,
    flag,
    limit_of,
    open_repo,
    page,
    page_limit,
    parameter,
    parse_json,
    spaces_of_model,
    start_of_page,
    state_of,
)

COMMITS_PAGE = 100
MAX_PATHS = 1000
# finding the last commit of each file walks the history, so these pages are shorter
EXPANDED_PAGE = 100


def info(request: Request) -> Response:
    repository = open_repo(request, "read")
    revision = parameter(request, "revision") if "revision" in request.path_params else "main"
    commit = repository.resolve(revision)
    settings = state_of(request).storage.settings(repository.name)
    found = spaces_of_model(request), children_of_model(request)
    description = Description(repository, commit, settings, *found, with_blobs=flag(request, "blobs"))
    kind = repository.name.kind
    return JSONResponse(description.show(expanded(request, EXPANDABLE[kind]) or INFO[kind]))


def tree(request: Request) -> Response:
    repository = open_repo(request, "read")
    commit = repository.resolve(parameter(request, "revision"))
    folder = parameter(request, "path").strip("/") if "path" in request.path_params else ""
    if folder:
        parse_path(folder)
    recursive, expand = flag(request, "recursive"), flag(request, "expand")
    start, size = start_of_page(request), page_limit(request, MAX_PAGE)
    size = min(size, EXPANDED_PAGE) if expand else size
    entries = list(islice(list_entries(repository, commit, folder, recursive), start, start + size + 1))
    # the next page is of this commit, even if the branch moves
    path = f"/api/{repository.name.kind}s/{repository.name.id}/tree/{commit.id}"
    path += f"/{quote(folder, safe='')}" if folder else ""
    query = {"recursive": str(recursive).lower(), "expand": str(expand).lower(), "cursor": str(start + size)}
    query |= limit_of(request)
    items = _listed(repository, commit, entries[:size], expand)
    return page(request, items, query if len(entries) > size else None, path)


async def paths_info(request: Request) -> Response:
    """The body is a form, or JSON as huggingface.js sends it."""
    body = await body_of(request)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json":
        asked = parse_json(body)
        paths = asked.get("paths")
        if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
            raise bad_request("paths: expected a list of texts")
        return await run_in_threadpool(_paths_info, request, paths, asked.get("expand") is True)
    try:
        form = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=MAX_PATHS + 10)
    except ValueError:
        raise bad_request(f"paths: at most {MAX_PATHS} allowed") from None
    expand = form.get("expand", [""])[0].lower() in ("1", "true")
    return await run_in_threadpool(_paths_info, request, form.get("paths", []), expand)


def _paths_info(request: Request, paths: list[str], expand: bool) -> Response:
    repository = open_repo(request, "read")
    commit = repository.resolve(parameter(request, "revision"))
    if len(paths) > MAX_PATHS:
        raise bad_request(f"paths: at most {MAX_PATHS} allowed")
    found = (find_entry(repository, commit, parse_path(path.strip("/"))) for path in paths if path.strip("/"))
    return JSONResponse(_listed(repository, commit, [entry for entry in found if entry], expand))


def commits(request: Request) -> Response:
    repository = open_repo(request, "read")
    newest = repository.resolve(parameter(request, "revision"))
    formatted = "formatted" in request.query_params.getlist("expand[]")
    start, size = start_of_page(request), page_limit(request, COMMITS_PAGE)
    history = repository.history(newest)
    before = sum(1 for _ in islice(history, start))
    items = [_commit(commit, formatted) for commit in islice(history, size)]
    total = before + len(items) + sum(1 for _ in history)
    path = f"/api/{repository.name.kind}s/{repository.name.id}/commits/{newest.id}"
    query = {"cursor": str(start + size)} | ({"expand[]": "formatted"} if formatted else {}) | limit_of(request)
    answer = page(request, items, query if total > start + size else None, path)
    answer.headers["X-Total-Count"] = str(total)
    return answer


def refs(request: Request) -> Response:
    repository = open_repo(request, "read")

    def named(namespace: str) -> list[Json]:
        return [{"name": ref.name, "ref": ref.ref, "targetCommit": ref.commit} for ref in repository.refs(namespace)]

    listed: Json = {"branches": named("refs/heads/"), "converts": named("refs/convert/"), "tags": named("refs/tags/")}
    if flag(request, "include_prs"):
        listed["pullRequests"] = named("refs/pr/")
    return JSONResponse(listed)


def _listed(repository: Repository, commit: pygit2.Commit, entries: Iterable[Entry], expand: bool) -> list[Json]:
    entries = list(entries)
    changed = last_commits(repository, commit, [entry.path for entry in entries]) if expand else {}
    items = []
    for entry in entries:
        item: Json = {
            "type": "directory" if entry.is_folder else "file",
            "oid": entry.oid,
            "size": entry.size,
            "path": entry.path,
        }
        if entry.pointer:
            item["lfs"] = {"oid": entry.pointer.oid, "size": entry.size, "pointerSize": entry.stored_size}
        if entry.xet_hash:
            item["xetHash"] = entry.xet_hash
        if entry.path in changed:
            last = changed[entry.path]
            item["lastCommit"] = {"id": str(last.id), "title": _title(last), "date": date(last)}
        items.append(item)
    return items


def _commit(commit: pygit2.Commit, formatted: bool) -> Json:
    message = commit.message.partition("\n")[2].strip()
    described: dict[str, Any] = {
        "id": str(commit.id),
        "title": _title(commit),
        "message": message,
        "authors": [{"user": commit.author.name}],
        "date": date(commit),
    }
    if formatted:
        described["formatted"] = {"title": _title(commit), "message": message}
    return described


def _title(commit: pygit2.Commit) -> str:
    return commit.message.partition("\n")[0]


_API = "/api/{kind}/{owner}/{name}"
routes = [
    Route(_API, info, methods=["GET"]),
    Route(_API + "/revision/{revision}", info, methods=["GET"]),
    Route(_API + "/tree/{revision}", tree, methods=["GET"]),
    Route(_API + "/tree/{revision}/{path:path}", tree, methods=["GET"]),
    Route(_API + "/paths-info/{revision}", paths_info, methods=["POST"]),
    Route(_API + "/commits/{revision}", commits, methods=["GET"]),
    Route(_API + "/refs", refs, methods=["GET"]),
]
