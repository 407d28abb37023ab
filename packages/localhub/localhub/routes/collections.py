"""Collections of models, datasets, Spaces and other collections."""

import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..accounts import Account
from ..collection import MAX_NOTE, THEMES, Collection, Collections, Item
from ..names import KINDS, RepoName, parse_repo_id
from ..refusal import Refusal, bad_request, forbidden
from ..storage import RepoMissingError
from ..web import (
    MAX_PAGE,
    MAX_TITLE,
    Json,
    number_field,
    open_named,
    page,
    page_limit,
    parameter,
    signed_in,
    start_of_page,
    state_of,
    text_field,
    with_json,
)

MAX_LISTED = 4  # items of each collection in a listing, as the Hub shows them
_FILTERS = {"owner", "item", "q", "sort", "limit", "cursor"}


def listing(request: Request) -> Response:
    query = request.query_params
    if unknown := query.keys() - _FILTERS:
        raise bad_request(f"Listings of collections have no {', '.join(sorted(unknown))} here")
    if (order := query.get("sort")) not in (None, "lastModified", "trending", "upvotes"):
        raise bad_request('"sort" must be one of lastModified, trending, upvotes')
    found = [one for one in _collections(request).all() if _may_read(request, one)]
    if (owners := query.getlist("owner")) != []:
        found = [one for one in found if one.owner.lower() in {owner.lower() for owner in owners}]
    if (wanted := query.getlist("item")) != []:
        found = [one for one in found if any(f"{item.type}s/{item.id}" in wanted for item in one.items)]
    if words := query.get("q", "").lower():
        found = [one for one in found if words in one.title.lower()]
    if order == "lastModified":
        found.sort(key=lambda one: one.last_updated, reverse=True)
    start, size = start_of_page(request), page_limit(request, MAX_PAGE)
    items = []
    for one in found[start : start + size]:
        shown = _shown(request, one)
        shown["items"] = shown["items"][:MAX_LISTED]
        del shown["position"]  # the client counts
        items.append(shown)
    more = [(key, value) for key, value in query.multi_items() if key != "cursor"]
    more.append(("cursor", str(start + size)))
    return page(request, items, more if len(found) > start + size else None, request.url.path)


def get(request: Request) -> Response:
    return JSONResponse(_shown(request, _open(request)))


def create(request: Request, body: Json) -> Response:
    account = signed_in(request)
    owner = account.spelled_namespace(RepoName("model", text_field(body, "namespace", account.name), "any").owner)
    _check_may_change(account, owner)
    collections = _collections(request)
    with collections.locked():
        title, mine = _title(body), [one for one in collections.all() if one.owner == owner]
        for one in mine:
            if one.title == title:
                return JSONResponse({"error": "This collection already exists", "slug": one.slug}, status_code=409)
        made = _changed(Collection(secrets.token_hex(12), owner, title, position=len(mine)), body)
        made = collections.save(made)
        if isinstance(body.get("item"), dict):
            made = collections.save(_with_item(request, made, body))
    return JSONResponse(_shown(request, made))


def change(request: Request, body: Json) -> Response:
    collections = _collections(request)
    with collections.locked():
        changed = collections.save(_changed(_open(request, to_change=True), body))
    return JSONResponse({"success": True, "data": _shown(request, changed)})


def delete(request: Request) -> Response:
    collections = _collections(request)
    with collections.locked():
        collections.delete(_open(request, to_change=True))
    return JSONResponse({"success": True})


def add_item(request: Request, body: Json) -> Response:
    collections = _collections(request)
    with collections.locked():
        changed = collections.save(_with_item(request, _open(request, to_change=True), body))
    return JSONResponse(_shown(request, changed))


def change_item(request: Request, body: Json) -> Response:
    note = text_field(body, "note", longest=MAX_NOTE) if "note" in body else None
    position = number_field(body, "position") if "position" in body else None
    collections = _collections(request)
    with collections.locked():
        found = _open(request, to_change=True)
        collections.save(found.with_changed_item(parameter(request, "item"), note, position))
    return JSONResponse({"success": True})


def delete_item(request: Request) -> Response:
    collections = _collections(request)
    with collections.locked():
        collections.save(_open(request, to_change=True).without_item(parameter(request, "item")))
    return JSONResponse({"success": True})


def _collections(request: Request) -> Collections:
    return Collections(state_of(request).storage.folder)


def _open(request: Request, to_change: bool = False) -> Collection:
    """The collection in the path. Raises Refusal: 404 if the account may not read it, 403 if it may not change it."""
    found = _collections(request).find(parameter(request, "slug"))
    if found is None or not _may_read(request, found):
        raise Refusal(404, "Collection not found")
    if to_change:
        _check_may_change(signed_in(request), found.owner)
    return found


def _may_read(request: Request, collection: Collection) -> bool:
    account = state_of(request).accounts.identify(request)
    return not collection.private or (account is not None and account.owns_namespace(collection.owner))


def _check_may_change(account: Account, owner: str) -> None:
    if account.role != "write" or not account.owns_namespace(owner):
        raise forbidden(f"Forbidden: the token of {account.name} ({account.role}) can't change collections of {owner}")


def _title(body: Mapping[str, Any]) -> str:
    title = text_field(body, "title", longest=MAX_TITLE).strip()
    if not title:
        raise bad_request("title: required for a collection")
    return title


def _changed(collection: Collection, body: Json) -> Collection:
    """With the title, description, theme, position and privacy that a request names. Raises Refusal (400)."""
    private, theme = body.get("private", collection.private), text_field(body, "theme", collection.theme)
    if not isinstance(private, bool):
        raise bad_request("private: expected true or false")
    if theme not in THEMES:
        raise bad_request(f"theme: expected one of {', '.join(THEMES)}")
    return replace(
        collection,
        title=_title(body) if "title" in body else collection.title,
        description=text_field(body, "description", collection.description, longest=MAX_TITLE),
        private=private,
        theme=theme,
        position=number_field(body, "position") if "position" in body else collection.position,
    )


def _with_item(request: Request, collection: Collection, body: Json) -> Collection:
    """Raises Refusal (404) for an item that does not exist, or that the account may not read."""
    item = body.get("item")
    if not isinstance(item, dict):
        raise bad_request("item: expected an object")
    kind, item_id = text_field(item, "type"), text_field(item, "id")
    if kind in KINDS:
        item_id = open_named(request, state_of(request).storage.spelled(parse_repo_id(kind, item_id)), "read").name.id
    elif kind == "collection":
        other = _collections(request).find(item_id.rpartition("/")[2])
        if other is None or not _may_read(request, other):
            raise Refusal(404, "Collection not found")
        item_id = other.id
    else:
        raise bad_request(f"type: this Hub has no {kind}, expected {', '.join((*KINDS, 'collection'))}")
    return collection.with_item(kind, item_id, text_field(body, "note", "", longest=MAX_NOTE))


def _shown(request: Request, collection: Collection) -> Json:
    """As the Hub shows it, without the items that the account may not read."""
    items = (_shown_item(request, item, position) for position, item in enumerate(collection.items))
    return {
        "slug": collection.slug,
        "title": collection.title,
        "description": collection.description,
        "owner": {"_id": collection.owner, "name": collection.owner, "fullname": collection.owner, "avatarUrl": ""},
        "position": collection.position,
        "private": collection.private,
        "theme": collection.theme,
        "upvotes": 0,
        "isUpvotedByUser": False,
        "lastUpdated": collection.last_updated,
        "items": [item for item in items if item is not None],
    }


def _shown_item(request: Request, item: Item, position: int) -> Json | None:
    shown: Json = {"_id": item.key, "id": item.id, "type": item.type, "position": position}
    if item.note:
        shown["note"] = {"text": item.note, "html": ""}
    if item.type == "collection":
        other = _collections(request).find(item.id)
        if other is None or not _may_read(request, other):
            return None
        return shown | {"slug": other.slug, "title": other.title}
    storage, name = state_of(request).storage, parse_repo_id(item.type, item.id)
    try:
        found = open_named(request, name if storage.exists(name) else storage.moved_to(name) or name, "read").name
    except (Refusal, RepoMissingError):  # it was deleted, or made private
        return None
    return shown | {"id": found.id}


_API = "/api/collections"
_ONE = _API + "/{namespace}/{slug}"
routes = [
    Route(_API, listing, methods=["GET"]),
    Route(_API, with_json(create), methods=["POST"]),
    Route(_ONE, get, methods=["GET"]),
    Route(_ONE, with_json(change), methods=["PATCH"]),
    Route(_ONE, delete, methods=["DELETE"]),
    Route(_ONE + "/items", with_json(add_item), methods=["POST"]),
    Route(_ONE + "/items/{item}", with_json(change_item), methods=["PATCH"]),
    Route(_ONE + "/items/{item}", delete_item, methods=["DELETE"]),
]
