"""Users, organisations and what they like: overviews, members, likes."""

from collections.abc import Iterable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..accounts import spelled
from ..discussions import list_discussions
from ..likes import like, likers, unlike
from ..names import KINDS
from ..refusal import Refusal, forbidden
from ..users import Organisation
from ..web import (
    MAX_PAGE,
    Json,
    limit_of,
    open_repo,
    page,
    page_limit,
    parameter,
    readable_repos,
    signed_in,
    start_of_page,
    state_of,
)


def user_overview(request: Request) -> Response:
    name = _user(request)
    hub = state_of(request)
    readable = (repository for kind in KINDS for _, repository, _ in readable_repos(request, kind))
    opened = sum(one.author == name for repository in readable for one in list_discussions(repository))
    return JSONResponse(
        {
            **_person(request, name),
            "isPro": False,
            "orgs": [_organisation(request, org) for org in hub.accounts.organisations_of(name)],
            **_counts(request, name),
            "numDiscussions": opened,
            "numLikes": len(_likes(request, name)),
        }
    )


def organisation_overview(request: Request) -> Response:
    name = _known_organisation(request)
    members = len(state_of(request).accounts.members(name))
    return JSONResponse({**_organisation(request, name), **_counts(request, name), "numUsers": members})


def members(request: Request) -> Response:
    names = state_of(request).accounts.members(_known_organisation(request))
    return _page(request, [_person(request, name) for name in names])


def user_likes(request: Request) -> Response:
    return _page(request, _likes(request, _user(request)))


def repo_likers(request: Request) -> Response:
    return _page(request, [_person(request, name) for name in likers(open_repo(request, "read"))])


def put_like(request: Request) -> Response:
    repository, user = open_repo(request, "read"), _liker(request)
    with state_of(request).storage.change(repository.name) as opened:
        like(opened, user)
    return JSONResponse({})


def delete_like(request: Request) -> Response:
    repository, user = open_repo(request, "read"), _liker(request)
    with state_of(request).storage.change(repository.name) as opened:
        unlike(opened, user)
    return JSONResponse({})


def _liker(request: Request) -> str:
    account = signed_in(request)
    if account.role != "write":
        raise forbidden(f"Forbidden: the token of {account.name} ({account.role}) does not allow likes")
    return account.name


def _likes(request: Request, user: str) -> list[Json]:
    """What a user likes, newest first; private repos only for those who may read them."""
    found = [
        {"createdAt": since, "repo": {"name": name.id, "type": kind}}
        for kind in KINDS
        for name, repository, _ in readable_repos(request, kind)
        if (since := likers(repository).get(user)) is not None
    ]
    return sorted(found, key=lambda one: str(one["createdAt"]), reverse=True)


def _user(request: Request) -> str:
    name = parameter(request, "user")
    found = spelled(name, state_of(request).accounts.users())
    if found is None:
        raise Refusal(404, f"This user does not exist: {name}")
    return found


def _known_organisation(request: Request) -> str:
    name = parameter(request, "namespace")
    found = spelled(name, state_of(request).accounts.organisations())
    if found is None:
        raise Refusal(404, f"This organization does not exist: {name}")
    return found


def _person(request: Request, name: str) -> Json:
    fullname = state_of(request).accounts.fullname(name)
    return {"_id": name, "user": name, "fullname": fullname, "type": "user", "avatarUrl": ""}


def _organisation(request: Request, name: str) -> Json:
    profile = state_of(request).organisations.get(name.lower(), Organisation(name))
    return {"_id": name, "name": name, "fullname": profile.fullname or name, "type": "org", "avatarUrl": ""}


def _counts(request: Request, owner: str) -> Json:
    keys = {"numModels": "model", "numDatasets": "dataset", "numSpaces": "space"}
    return {
        key: sum(name.owner.lower() == owner.lower() for name, _, _ in readable_repos(request, kind))
        for key, kind in keys.items()
    }


def _page(request: Request, items: Iterable[Json]) -> Response:
    listed = list(items)
    start, size = start_of_page(request), page_limit(request, MAX_PAGE)
    more = {"cursor": str(start + size)} | limit_of(request) if len(listed) > start + size else None
    return page(request, listed[start : start + size], more, request.url.path)


_REPO = "/api/{kind}/{owner}/{name}"
routes = [
    Route("/api/users/{user}/overview", user_overview, methods=["GET"]),
    Route("/api/users/{user}/likes", user_likes, methods=["GET"]),
    Route("/api/organizations/{namespace}/overview", organisation_overview, methods=["GET"]),
    Route("/api/organizations/{namespace}/members", members, methods=["GET"]),
    Route(_REPO + "/likers", repo_likers, methods=["GET"]),
    Route(_REPO + "/like", put_like, methods=["POST"]),
    Route(_REPO + "/like", delete_like, methods=["DELETE"]),
]
