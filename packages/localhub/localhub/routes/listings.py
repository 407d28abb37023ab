"""Lists of models, datasets and Spaces: `list_models`, `list_datasets` and `list_spaces`."""

import re
from collections.abc import Callable, Iterator

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..description import EXPANDABLE, LISTED, LISTED_IN_FULL, Description
from ..names import KINDS, parse_kind
from ..refusal import bad_request, forbidden
from ..storage import RepoMissingError
from ..web import (
    MAX_PAGE,
    children_of_model,
    expanded,
    flag,
    page,
    page_limit,
    parameter,
    readable_repos,
    signed_in,
    spaces_of_model,
    start_of_page,
    state_of,
)

_FILTERS = {"author", "search", "filter", "gated", "sort", "direction", "limit", "full", "expand", "expand[]", "cursor"}
_KNOWN = {
    "model": _FILTERS | {"pipeline_tag", "num_parameters", "config", "cardData"},
    "dataset": _FILTERS,
    "space": _FILTERS | {"models", "datasets", "linked"},
}
_AMOUNT = re.compile(r"(min|max):([0-9]{1,9}(?:\.[0-9]{1,9})?)([KMBT]?)")
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
# downloads are not counted, and nothing trends: these orders leave the repos as they are
_SORTS: dict[str, Callable[[Description], str | int]] = {
    "createdAt": lambda repo: repo.settings.created_at,
    "lastModified": lambda repo: repo.last_modified,
    "downloads": lambda _: "",
    "likes": lambda repo: repo.likes,
    "trendingScore": lambda _: "",
}


def listing(request: Request) -> Response:
    """The repos of a kind that the account may read and that match all filters; without `sort`, by owner and name."""
    kind, query = parse_kind(parameter(request, "kind")), request.query_params
    if unknown := query.keys() - _KNOWN[kind]:
        raise bad_request(f"Listings of {kind}s have no {', '.join(sorted(unknown))} here")
    wanted, shown = _filter(query), _shown(request, kind)
    found = [repo for repo in _described(request, kind) if wanted(repo)]
    if (order := query.get("sort")) is not None:
        if order not in _SORTS:
            raise bad_request(f'"sort" must be one of {", ".join(_SORTS)}')
        found.sort(key=_SORTS[order], reverse=query.get("direction") != "1")
    start, size = start_of_page(request), page_limit(request, MAX_PAGE)
    items = [repo.show(shown) for repo in found[start : start + size]]
    more = [(key, value) for key, value in query.multi_items() if key != "cursor"]
    more.append(("cursor", str(start + size)))
    return page(request, items, more if len(found) > start + size else None, request.url.path)


def own_repos(request: Request) -> Response:
    """The repos of the account of a request, or of one of its organisations, with the storage that each uses."""
    account, query = signed_in(request), request.path_params
    namespace = parameter(request, "namespace") if "namespace" in query else None
    if namespace is not None and not account.owns_namespace(namespace):
        raise forbidden(f"{account.name} is not a member of {namespace}")
    related, found = (spaces_of_model(request), children_of_model(request)), []
    for kind in KINDS:
        for name, repository, settings in readable_repos(request, kind):
            # a user who may write everywhere owns all repos
            if (namespace is None and account.owns is None) or name.owner.lower() == (namespace or account.name).lower():
                found.append(Description(repository, repository.resolve("main"), settings, *related))
    sizes = [repo.used_storage for repo in found]
    items = [
        {
            "id": repo.name.id,
            "type": repo.name.kind,
            "updatedAt": repo.last_modified,
            "visibility": "private" if repo.settings.private else "public",
            "storage": size,
            "storagePercent": 100 * size / max(1, sum(sizes)),
        }
        for repo, size in zip(found, sizes, strict=True)
    ]
    start, size = start_of_page(request), state_of(request).limits.page_size
    more = {"cursor": str(start + size)} if len(items) > start + size else None
    return page(request, items[start : start + size], more, request.url.path)


def _described(request: Request, kind: str) -> Iterator[Description]:
    """Readable repos; author and search come first, because only the name is needed for them."""
    query, related = request.query_params, (spaces_of_model(request), children_of_model(request))
    author, words = query.get("author"), [text.lower() for text in query.getlist("search")]
    for name, repository, settings in readable_repos(request, kind):
        if author is not None and author.lower() != name.owner.lower():
            continue
        if all(word in name.id.lower() for word in words):
            try:
                yield Description(repository, repository.resolve("main"), settings, *related)
            except RepoMissingError:
                continue  # it was deleted meanwhile


def _filter(query: QueryParams) -> Callable[[Description], bool]:
    """Raises Refusal (400) for an invalid value."""
    gated, task = query.get("gated"), query.get("pipeline_tag")
    if gated is not None and gated.lower() not in ("true", "false"):
        raise bad_request(f"gated: expected true or false, not {gated!r}")
    least, most = _amounts(query.get("num_parameters"))
    tags, linked = set(query.getlist("filter")), {key: set(query.getlist(key)) for key in ("models", "datasets")}

    def wanted(repo: Description) -> bool:
        if gated is not None and bool(repo.settings.gated) != (gated.lower() == "true"):
            return False
        if tags and tags - set(repo.tags):
            return False
        if task is not None and repo.card.get("pipeline_tag") != task:
            return False
        if any(ids and ids - set(repo.ids(key)) for key, ids in linked.items()):
            return False
        total = (repo.safetensors or {}).get("total") if query.get("num_parameters") else 0
        return total is not None and least <= total <= most

    return wanted


def _amounts(text: str | None) -> tuple[float, float]:
    """`min:6B,max:128B`, either of them may be missing. Raises Refusal (400)."""
    bounds = {"min": 0.0, "max": float("inf")}
    for part in text.split(",") if text else ():
        match = _AMOUNT.fullmatch(part)
        if match is None:
            raise bad_request(f"num_parameters: expected a text such as min:6B,max:128B, not {text!r}")
        bounds[match[1]] = float(match[2]) * _UNITS[match[3]]
    return bounds["min"], bounds["max"]


def _shown(request: Request, kind: str) -> set[str]:
    """The properties in the answer. Raises Refusal (400) for one that does not exist."""
    if chosen := expanded(request, EXPANDABLE[kind]):
        return chosen
    shown = set((LISTED_IN_FULL if flag(request, "full") else LISTED)[kind])
    shown |= {name for name in ("config", "cardData") if flag(request, name)}
    return shown | ({"models", "datasets"} if flag(request, "linked") else set())


routes = [
    Route("/api/{kind}", listing, methods=["GET"]),
    Route("/api/settings/repositories", own_repos, methods=["GET"]),
    Route("/api/organizations/{namespace}/settings/repositories", own_repos, methods=["GET"]),
]
