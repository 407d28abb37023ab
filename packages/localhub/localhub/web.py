"""Shared by all routes: access to the repo of a request, parsing of parameters and bodies, and pages of listings."""

import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal
from urllib.parse import unquote, urlencode

from starlette.concurrency import run_in_threadpool
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .access_requests import is_accepted
from .accounts import Account, Accounts
from .card import read_front_matter
from .names import RepoName, parse_kind
from .refusal import Refusal, bad_request, forbidden, repo_not_found
from .repository import Repository
from .storage import RepoMissingError, RepoSettings, Storage
from .trusted_publishing import TrustedPublishing
from .users import Organisation

Json = dict[str, Any]
Access = Literal["read", "files", "discuss", "write", "administer"]
MAX_JSON_SIZE = 16 * 1024 * 1024
MAX_PAGE = 1000
MAX_TEXT = 1024 * 1024  # characters of a field, such as a comment
MAX_TITLE = 1000  # of a discussion or commit
MAX_INTEGER = 2**53 - 1
MAX_DIGITS = 9  # of a number in a URL


class PrefixConvertor(Convertor[str]):
    """`{kind:prefix}` in a route: the prefix of a dataset's or Space's id in URLs. Models have none."""

    regex = "datasets|spaces"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


class NumberConvertor(Convertor[int]):
    """`{number:number}` in a route. Starlette's own `int` fails for a number of thousands of digits."""

    regex = f"[0-9]{{1,{MAX_DIGITS}}}"

    def convert(self, value: str) -> int:
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


register_url_convertor("prefix", PrefixConvertor())
register_url_convertor("number", NumberConvertor())


@dataclass(frozen=True)
class Limits:
    """Uploads larger than `multipart_threshold` bytes have parts of `chunk_size` bytes; listings have `page_size` entries."""

    multipart_threshold: int = 5 * 1024**3
    chunk_size: int = 64 * 1024**2
    page_size: int = 1000


@dataclass(frozen=True)
class HubState:
    """What all routes share: one per server."""

    storage: Storage
    accounts: Accounts
    organisations: Mapping[str, Organisation]
    limits: Limits
    publishing: TrustedPublishing | None


def state_of(request: Request) -> HubState:
    state: HubState = request.app.state.hub
    return state


def endpoint_of(request: Request) -> str:
    return str(request.base_url).rstrip("/")


def parameter(request: Request, name: str) -> str:
    """A segment of the path. Routes match the percent-encoded path, so that `refs%2Fpr%2F1` is one segment."""
    try:
        return unquote(request.path_params[name], errors="strict")
    except UnicodeDecodeError:
        raise bad_request("The path is not UTF-8") from None


def repo_name(request: Request) -> RepoName:
    """The repo in the path, as its owner spells it. Raises Refusal."""
    kind = parse_kind(parameter(request, "kind")) if "kind" in request.path_params else "model"
    name = RepoName(kind, parameter(request, "owner"), parameter(request, "name"))
    return state_of(request).storage.spelled(name)


def signed_in(request: Request) -> Account:
    """The account of a request. Raises Refusal (401) for an anonymous one."""
    account = state_of(request).accounts.identify(request)
    if account is None:
        raise Refusal(401, "Invalid username or password.")
    return account


def open_repo(request: Request, access: Access) -> Repository:
    """The repo in the path. Raises Refusal if it does not exist or the request has no such access."""
    return open_named(request, repo_name(request), access)


def open_named(request: Request, name: RepoName, access: Access) -> Repository:
    """As `open_repo`, for a repo that is named elsewhere in the request."""
    storage, account = state_of(request).storage, state_of(request).accounts.identify(request)
    try:
        repository, settings = storage.open(name), storage.settings(name)
    except RepoMissingError:
        raise _moved(request, name, account) or repo_not_found(account is not None) from None
    if settings.private and not (account and account.may_read_private(name)):
        raise repo_not_found(account is not None)
    if settings.disabled:
        raise forbidden("Access to this resource is disabled.")
    if access == "read":
        return repository
    if access == "files":
        if settings.gated and not (account and (account.may_read_private(name) or is_accepted(repository, account.name))):
            message = f"Access to {name.kind} {name.id} is restricted and you are not in the authorized list."
            raise Refusal(403 if account else 401, message, "GatedRepo")
        return repository
    if account is None:
        raise Refusal(401, "Invalid username or password.")
    allowed = {
        "discuss": account.may_discuss(name),
        "write": account.may_write(name),
        "administer": account.may_administer(name),
    }
    if not allowed[access]:
        raise forbidden(f"Forbidden: the token of {account.name} ({account.role}) does not allow this on {name.id}")
    return repository


def may_read_files(request: Request) -> bool:
    """Whether the request may read the files of the repo in the path: of a gated one, strangers see their names only."""
    try:
        open_repo(request, "files")
    except Refusal:
        return False
    return True


def _moved(request: Request, name: RepoName, account: Account | None) -> Refusal | None:
    """A redirect to the new name of a repo that was moved, if the account may read it."""
    storage = state_of(request).storage
    target = storage.moved_to(name)
    path = request.scope["raw_path"].decode("latin-1")
    if target is None or name.id not in path:
        return None
    if storage.settings(target).private and not (account and account.may_read_private(target)):
        return None
    query = f"?{request.url.query}" if request.url.query else ""
    return Refusal(307, f"Moved to {target.id}", headers={"Location": path.replace(name.id, target.id, 1) + query})


def readable_repos(request: Request, kind: str) -> Iterator[tuple[RepoName, Repository, RepoSettings]]:
    """All repos of a kind that the account of a request may read, by owner and name."""
    storage, account = state_of(request).storage, state_of(request).accounts.identify(request)
    for name in storage.names(kind):
        try:
            repository, settings = storage.open(name), storage.settings(name)
        except RepoMissingError:
            continue  # it was deleted meanwhile
        if not settings.private or (account and account.may_read_private(name)):
            yield name, repository, settings


def spaces_of_model(request: Request) -> Callable[[str], list[str]]:
    """A function that finds the Spaces with a model in their card, among those that the account may read."""

    @cache
    def models_of_spaces() -> list[tuple[str, list[Any]]]:
        found = []
        for name, repository, _ in readable_repos(request, "space"):
            models = read_front_matter(repository.text(repository.resolve("main"), "README.md")).get("models")
            found.append((name.id, models if isinstance(models, list) else [models]))
        return found

    return lambda model: [space for space, models in models_of_spaces() if model in models]


def children_of_model(request: Request) -> Callable[[str], int]:
    """A function that counts the models with a model as their base, among those that the account may read."""

    @cache
    def bases() -> Counter[str]:
        found: Counter[str] = Counter()
        for _, repository, _ in readable_repos(request, "model"):
            base = read_front_matter(repository.text(repository.resolve("main"), "README.md")).get("base_model")
            found.update({one for one in (base if isinstance(base, list) else [base]) if isinstance(one, str)})
        return found

    return lambda model: bases()[model]


def expanded(request: Request, allowed: Collection[str]) -> set[str]:
    """The properties that `expand` asks for. Raises Refusal (400) in the words of the Hub."""
    chosen = {*request.query_params.getlist("expand"), *request.query_params.getlist("expand[]")}
    if chosen - set(allowed):
        raise bad_request(f'"expand" must be one of [{", ".join(sorted(allowed))}]')
    return chosen


def with_json(handler: Callable[[Request, Json], Response]) -> Callable[[Request], Awaitable[Response]]:
    """A route with a JSON object as its body. The handler runs in a thread, because it accesses files and waits for locks."""

    async def route(request: Request) -> Response:
        return await run_in_threadpool(handler, request, await _json_body(request))

    return route


async def body_of(request: Request, limit: int = MAX_JSON_SIZE) -> bytes:
    """The whole body. Raises Refusal (413) above the limit, in bytes."""
    body = bytearray()
    async for block in request.stream():
        body += block
        if len(body) > limit:
            raise Refusal(413, f"The request is larger than {limit} bytes")
    return bytes(body)


async def _json_body(request: Request) -> Json:
    return await run_in_threadpool(parse_json, await body_of(request) or b"{}")


def parse_json(text: bytes) -> Json:
    """Raises Refusal (400) unless it is an object; `null` counts as an empty one."""
    try:
        # text as UTF-8 has no lone surrogates, but its escapes may: nothing that contains one can be stored or sent
        value = json.loads(text.decode(), parse_constant=_not_json)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise bad_request("The request is not valid JSON") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise bad_request("The request is not a JSON object")
    return value


_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def _not_json(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def text_field(
    body: Mapping[str, Any], key: str, default: str | None = None, longest: int = MAX_TEXT, is_content: bool = False
) -> str:
    """Raises Refusal (400) if it is not text, is missing and has no default, or has more than `longest` characters.

    Also (422) if it contains NUL, which git allows in no message and no name. The content of a file has neither limit.
    """
    value = body.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise bad_request(f"{key}: expected text")
    if not is_content and len(value) > longest:
        raise bad_request(f"{key}: {len(value)} characters, allowed are {longest}")
    if not is_content and "\0" in value:
        raise Refusal(422, f"{key}: the character NUL is not allowed")
    return value


def number_field(body: Mapping[str, Any], key: str) -> int:
    """Raises Refusal (400) if it is missing, not an integer, negative, or larger than other languages can count."""
    value = body.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_INTEGER:
        raise bad_request(f"{key}: expected an integer from 0 to {MAX_INTEGER}")
    return value


def flag(request: Request, name: str) -> bool:
    return request.query_params.get(name, "").lower() in ("1", "true")


def page(
    request: Request, items: list[Json], next_query: Mapping[str, str] | Sequence[tuple[str, str]] | None, path: str
) -> JSONResponse:
    """One page of a listing. `next_query` has the parameters of the next page, None on the last."""
    if next_query is None:
        return JSONResponse(items)
    url = f"{endpoint_of(request)}{path}?{urlencode(next_query)}"
    return JSONResponse(items, headers={"Link": f'<{url}>; rel="next"'})


def start_of_page(request: Request) -> int:
    """The cursor of a listing: how many entries came before. Raises Refusal (400)."""
    return number_parameter(request, "cursor", 0)


def number_parameter(request: Request, name: str, default: int) -> int:
    """A number in the query. Raises Refusal (400)."""
    value = request.query_params.get(name, str(default))
    if not value.isascii() or not value.isdigit() or len(value) > MAX_DIGITS:
        raise bad_request(f"{name}: expected a number of at most {MAX_DIGITS} digits")
    return int(value)


def page_limit(request: Request, default: int) -> int:
    """How many entries a page has: the parameter `limit`, or the default. Raises Refusal (400)."""
    text = request.query_params.get("limit", str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text)):
        raise bad_request(f"limit: expected a positive number, not {text[:20]!r}")
    return min(int(text), MAX_PAGE, state_of(request).limits.page_size)


def limit_of(request: Request) -> dict[str, str]:
    """The parameter `limit` for the next page, if the request has one."""
    limit = request.query_params.get("limit")
    return {} if limit is None else {"limit": limit}
