"""Requests for access to gated repos: users ask, and those who may write to the repo answer."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..access_requests import STATUSES, ask, grant, handle, list_requests
from ..accounts import spelled
from ..refusal import Refusal, bad_request
from ..repository import Repository
from ..web import (
    MAX_PAGE,
    MAX_TITLE,
    Json,
    limit_of,
    open_repo,
    page,
    page_limit,
    parameter,
    signed_in,
    start_of_page,
    state_of,
    text_field,
    with_json,
)

MAX_FIELDS = 50  # of the form that a user fills in


def listing(request: Request) -> Response:
    """Those with one status, newest first."""
    repository = _gated(request)
    status = parameter(request, "status")
    if status not in STATUSES:
        raise bad_request(f"status: expected pending, accepted or rejected, not {status!r}")
    found = [one for one in list_requests(repository) if one.status == status]
    found.sort(key=lambda one: one.timestamp, reverse=True)
    accounts = state_of(request).accounts
    start, size = start_of_page(request), page_limit(request, MAX_PAGE)
    items: list[Json] = [
        {
            "requestId": one.id,
            "status": one.status,
            "timestamp": one.timestamp,
            "user": {"_id": one.user, "user": one.user, "fullname": accounts.fullname(one.user), "type": "user"},
            **({"fields": one.fields} if one.fields else {}),
            **({"rejectionReason": one.reason} if one.reason else {}),
        }
        for one in found[start : start + size]
    ]
    more = {"cursor": str(start + size)} | limit_of(request) if len(found) > start + size else None
    return page(request, items, more, request.url.path)


def answer(request: Request, body: Json) -> Response:
    repository = _gated(request)
    status = STATUSES.get(text_field(body, "status"))
    if status is None:
        raise bad_request("status: expected pending, accepted or rejected")
    user, request_id = body.get("user"), body.get("requestId")
    if not isinstance(user if request_id is None else request_id, str):
        raise bad_request("user, requestId: expected one of them, as text")
    reason = text_field(body, "rejectionReason", "", longest=MAX_TITLE)
    with state_of(request).storage.change(repository.name) as opened:
        handle(opened, status, reason, user, request_id)
    return JSONResponse({})


def grant_access(request: Request, body: Json) -> Response:
    repository = _gated(request)
    user = text_field(body, "user")
    found = spelled(user, state_of(request).accounts.users())
    if found is None:
        raise Refusal(404, f"This user does not exist: {user}")
    with state_of(request).storage.change(repository.name) as opened:
        grant(opened, found)
    return JSONResponse({})


def ask_access(request: Request, body: Json) -> Response:
    """What the button on the page of a gated repo does: the body has the fields of its form."""
    repository, account = open_repo(request, "read"), signed_in(request)
    if account.role == "fineGrained":
        raise Refusal(403, "Forbidden: this token does not allow requests for access")
    gate = state_of(request).storage.settings(repository.name).gated
    if not gate:
        raise bad_request(f"{repository.name.id} is not gated")
    fields = {name: text_field(body, name, longest=MAX_TITLE) for name in body}
    if len(fields) > MAX_FIELDS or any(len(name) > MAX_TITLE for name in fields):
        raise bad_request(f"At most {MAX_FIELDS} fields with names of {MAX_TITLE} characters are allowed")
    with state_of(request).storage.change(repository.name) as opened:
        found = ask(opened, account.name, str(gate), fields)
    return JSONResponse({"status": found.status})


def _gated(request: Request) -> Repository:
    """A repo that the account may write. Raises Refusal (400) if it is not gated."""
    repository = open_repo(request, "write")
    if not state_of(request).storage.settings(repository.name).gated:
        raise bad_request(f"{repository.name.id} is not gated")
    return repository


_API = "/api/{kind}/{owner}/{name}/user-access-request"
routes = [
    Route(_API + "/handle", with_json(answer), methods=["POST"]),
    Route(_API + "/grant", with_json(grant_access), methods=["POST"]),
    Route(_API + "/{status}", listing, methods=["GET"]),
    Route("/{kind:prefix}/{owner}/{name}/ask-access", with_json(ask_access), methods=["POST"]),
    Route("/{owner}/{name}/ask-access", with_json(ask_access), methods=["POST"]),
]
