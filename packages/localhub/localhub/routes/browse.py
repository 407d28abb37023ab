"""Repo info, trees and history."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any
from urllib.parse import parse_qs, quote

import pygit2
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..card import read_front_matter
from ..names import parse_kind, parse_path
from ..refusal import bad_request
from ..repository import Repository
from ..storage import RepoMissingError, RepoSettings
from ..tree import Entry, find_entry, last_commits, list_entries
from ..web import Json, body_of, flag, open_repo, page, parameter, start_of_page, state_of

COMMITS_PAGE = 100
MAX_PATHS = 1000
# finding the last commit of each file walks the history, so these pages are shorter
EXPANDED_PAGE = 100


def info(request: Request) -> Response:
    repository = open_repo(request, "read")
    revision = parameter(request, "revision") if "revision" in request.path_params else "main"
    commit = repository.resolve(revision)
    settings = state_of(request).storage.settings(repository.name)
    described = _described(repository, commit, settings, with_blobs=flag(request, "blobs"))
    expand = request.query_params.getlist("expand") + request.query_params.getlist("expand[]")
    if expand:
        unknown = set(expand) - described.keys() - {"downloadsAllTime", "trendingScore", "usedStorage"}
        if unknown:
            raise bad_request(f"expand: unknown {', '.join(sorted(unknown))}")
        described = {key: value for key, value in described.items() if key in {*expand, "id", "_id"}}
    return JSONResponse(described)


def listing(request: Request) -> Response:
    """The repos of a kind that the account may read: all, or those of an author, with a text in their name, or of a model."""
    query, state = request.query_params, state_of(request)
    if unknown := query.keys() - {"author", "search", "models", "limit", "full", "cursor"}:
        raise bad_request(f"Listings have no {', '.join(sorted(unknown))} here")
    account, found = state.accounts.identify(request), []
    for name in state.storage.names(parse_kind(parameter(request, "kind"))):
        if query.get("author", name.owner) != name.owner or query.get("search", "").lower() not in name.id.lower():
            continue
        try:
            repository, settings = state.storage.open(name), state.storage.settings(name)
        except RepoMissingError:
            continue  # it was deleted meanwhile
        if settings.private and not (account and account.may_read_private(name)):
            continue
        described = _described(repository, repository.resolve("main"), settings, with_blobs=False)
        if not set(query.getlist("models")) - set(described.get("models", ())):
            found.append(described if flag(request, "full") else {**described, "siblings": None})
    start = start_of_page(request)
    size = min(state.limits.page_size, int(query["limit"]) if query.get("limit", "").isdecimal() else state.limits.page_size)
    more = {**dict(query), "cursor": str(start + size)} if len(found) > start + size else None
    return page(request, found[start : start + size], more, request.url.path)


def tree(request: Request) -> Response:
    repository = open_repo(request, "read")
    commit = repository.resolve(parameter(request, "revision"))
    folder = parameter(request, "path").strip("/") if "path" in request.path_params else ""
    if folder:
        parse_path(folder)
    recursive, expand = flag(request, "recursive"), flag(request, "expand")
    start, size = start_of_page(request), state_of(request).limits.page_size
    size = min(size, EXPANDED_PAGE) if expand else size
    entries = list(islice(list_entries(repository, commit, folder, recursive), start, start + size + 1))
    # the next page is of this commit, even if the branch moves
    path = f"/api/{repository.name.kind}s/{repository.name.id}/tree/{commit.id}"
    path += f"/{quote(folder, safe='')}" if folder else ""
    query = {"recursive": str(recursive).lower(), "expand": str(expand).lower(), "cursor": str(start + size)}
    items = _listed(repository, commit, entries[:size], expand)
    return page(request, items, query if len(entries) > size else None, path)


async def paths_info(request: Request) -> Response:
    form = parse_qs((await body_of(request)).decode("utf-8", "replace"), keep_blank_values=True)
    return await run_in_threadpool(_paths_info, request, form)


def _paths_info(request: Request, form: dict[str, list[str]]) -> Response:
    repository = open_repo(request, "read")
    commit = repository.resolve(parameter(request, "revision"))
    paths = form.get("paths", [])
    if len(paths) > MAX_PATHS:
        raise bad_request(f"paths: at most {MAX_PATHS} allowed")
    found = (find_entry(repository, commit, parse_path(path.strip("/"))) for path in paths if path.strip("/"))
    expand = form.get("expand", [""])[0].lower() in ("1", "true")
    return JSONResponse(_listed(repository, commit, [entry for entry in found if entry], expand))


def commits(request: Request) -> Response:
    repository = open_repo(request, "read")
    newest = repository.resolve(parameter(request, "revision"))
    formatted = "formatted" in request.query_params.getlist("expand[]")
    start, size = start_of_page(request), min(state_of(request).limits.page_size, COMMITS_PAGE)
    history = list(islice(repository.history(newest), start, start + size + 1))
    path = f"/api/{repository.name.kind}s/{repository.name.id}/commits/{newest.id}"
    query = {"cursor": str(start + size)} | ({"expand[]": "formatted"} if formatted else {})
    items = [_commit(commit, formatted) for commit in history[:size]]
    return page(request, items, query if len(history) > size else None, path)


def refs(request: Request) -> Response:
    repository = open_repo(request, "read")

    def named(namespace: str) -> list[Json]:
        return [{"name": ref.name, "ref": ref.ref, "targetCommit": ref.commit} for ref in repository.refs(namespace)]

    listed: Json = {"branches": named("refs/heads/"), "converts": named("refs/convert/"), "tags": named("refs/tags/")}
    if flag(request, "include_prs"):
        listed["pullRequests"] = named("refs/pr/")
    return JSONResponse(listed)


def _described(repository: Repository, commit: pygit2.Commit, settings: RepoSettings, with_blobs: bool) -> Json:
    card = read_front_matter(repository.text(commit, "README.md"))
    name = repository.name
    description: Json = {
        "_id": f"{name.kind}:{name.id}",
        "id": name.id,
        "author": name.owner,
        "sha": str(commit.id),
        "lastModified": _date(commit),
        "createdAt": settings.created_at,
        "private": settings.private,
        "gated": settings.gated,
        "disabled": settings.disabled,
        "downloads": 0,
        "likes": 0,
        "tags": list(_tags(card)),
        "cardData": card,
        "siblings": list(_siblings(repository, commit, with_blobs)),
    }
    if name.kind == "space":
        models = card.get("models")
        description |= {"sdk": card.get("sdk"), "models": models if isinstance(models, list) else []}
    if name.kind == "model":
        description |= {
            "modelId": name.id,
            "pipeline_tag": card.get("pipeline_tag"),
            "library_name": card.get("library_name"),
        }
    return description


def _tags(card: Json) -> Iterator[str]:
    """The Hub's tags for a card's metadata, with a prefix for all but plain tags."""
    for key, prefix in (("tags", ""), ("library_name", ""), ("pipeline_tag", ""), ("language", ""), ("license", "license:")):
        value = card.get(key) or []
        for item in value if isinstance(value, list) else [value]:
            yield f"{prefix}{item}"
    for key, prefix in (("datasets", "dataset:"), ("base_model", "base_model:")):
        value = card.get(key) or []
        for item in value if isinstance(value, list) else [value]:
            yield f"{prefix}{item}"


def _siblings(repository: Repository, commit: pygit2.Commit, with_blobs: bool) -> Iterator[Json]:
    for entry in list_entries(repository, commit, "", recursive=True):
        if entry.is_folder:
            continue
        sibling: Json = {"rfilename": entry.path}
        if with_blobs:
            sibling |= {"size": entry.size, "blobId": entry.oid}
            if entry.pointer:
                sibling["lfs"] = {"sha256": entry.pointer.oid, "size": entry.size, "pointerSize": entry.stored_size}
        yield sibling


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
        if entry.path in changed:
            last = changed[entry.path]
            item["lastCommit"] = {"id": str(last.id), "title": _title(last), "date": _date(last)}
        items.append(item)
    return items


def _commit(commit: pygit2.Commit, formatted: bool) -> Json:
    message = commit.message.partition("\n")[2].strip()
    described: dict[str, Any] = {
        "id": str(commit.id),
        "title": _title(commit),
        "message": message,
        "authors": [{"user": commit.author.name}],
        "date": _date(commit),
    }
    if formatted:
        described["formatted"] = {"title": _title(commit), "message": message}
    return described


def _title(commit: pygit2.Commit) -> str:
    return commit.message.partition("\n")[0]


def _date(commit: pygit2.Commit) -> str:
    return datetime.fromtimestamp(commit.commit_time, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


_API = "/api/{kind}/{owner}/{name}"
routes = [
    Route("/api/{kind}", listing, methods=["GET"]),
    Route(_API, info, methods=["GET"]),
    Route(_API + "/revision/{revision}", info, methods=["GET"]),
    Route(_API + "/tree/{revision}", tree, methods=["GET"]),
    Route(_API + "/tree/{revision}/{path:path}", tree, methods=["GET"]),
    Route(_API + "/paths-info/{revision}", paths_info, methods=["POST"]),
    Route(_API + "/commits/{revision}", commits, methods=["GET"]),
    Route(_API + "/refs", refs, methods=["GET"]),
]
