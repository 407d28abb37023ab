"""Requests for access to a gated repo: hub/access-requests.json in the repo, by the name of the user."""

import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from .records import now, read_records, write_records
from .refusal import Refusal, bad_request
from .repository import Repository

Status = Literal["pending", "accepted", "rejected"]
STATUSES: dict[str, Status] = {"pending": "pending", "accepted": "accepted", "rejected": "rejected"}


@dataclass(frozen=True)
class AccessRequest:
    """`fields`: what the user filled in. `reason`: why it was rejected."""

    user: str
    id: str
    timestamp: str
    status: Status
    fields: dict[str, Any] | None = None
    reason: str = ""


def list_requests(repository: Repository) -> Iterator[AccessRequest]:
    for record in read_records(repository.path / "hub" / "access-requests.json").values():
        yield AccessRequest(**record)


def is_accepted(repository: Repository, user: str) -> bool:
    return any(one.user == user and one.status == "accepted" for one in list_requests(repository))


def ask(repository: Repository, user: str, gate: str, fields: dict[str, Any]) -> AccessRequest:
    """The request of a user: a repo that is gated "auto" accepts it at once. Only inside `Storage.change`.

    A user who asked before keeps the answer.
    """
    for one in list_requests(repository):
        if one.user == user:
            return one
    return _save(repository, _new(user, "accepted" if gate == "auto" else "pending", fields))


def grant(repository: Repository, user: str) -> AccessRequest:
    """Accept a user who did not ask. Only inside `Storage.change`. Raises Refusal (400) if the user has access."""
    found = next((one for one in list_requests(repository) if one.user == user), None)
    if found is not None and found.status == "accepted":
        raise bad_request(f"{user} has access already")
    return _save(repository, replace(found, status="accepted", reason="") if found else _new(user, "accepted", None))


def handle(repository: Repository, status: Status, reason: str, user: str | None, request_id: str | None) -> None:
    """Set the status of a request, named by its user or its id. Only inside `Storage.change`.

    Raises Refusal: 404 if there is no such request, 400 if it has this status already.
    """
    found = next((one for one in list_requests(repository) if one.user == user or one.id == request_id), None)
    if found is None:
        raise Refusal(404, f"No access request of {user or request_id}")
    if found.status == status:
        raise bad_request(f"The access request of {found.user} is {status} already")
    _save(repository, replace(found, status=status, reason=reason))


def _new(user: str, status: Status, fields: dict[str, Any] | None) -> AccessRequest:
    return AccessRequest(user, secrets.token_hex(12), now(), status, fields)


def _save(repository: Repository, request: AccessRequest) -> AccessRequest:
    path = repository.path / "hub" / "access-requests.json"
    write_records(path, {**read_records(path), request.user: asdict(request)})
    return request
