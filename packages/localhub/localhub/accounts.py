"""Tokens, the accounts that they belong to, and their permissions."""

import base64
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from starlette.requests import Request

from .names import RepoName, parse_resource
from .refusal import Refusal
from .signing import SignatureError, verify

EXCHANGED_PREFIX = "hf_jwt_"
EXCHANGED = "exchanged token"
INVALID_CREDENTIALS = "Invalid credentials in Authorization header"


def spelled(name: str, names: Iterable[str]) -> str | None:
    """The one of these names that is the same but for case, None if there is none."""
    return next((one for one in names if one.lower() == name.lower()), None)


@dataclass(frozen=True)
class Account:
    """The user and the role of one token. Namespaces and ids are compared in any case, as everywhere.

    `owns`: the namespaces that belong to the user, None for all. A `fineGrained` token has access only to `resources`
    (`owner/name`, `datasets/owner/name`), which it may write, and to public repos.
    """

    name: str = "local"
    role: Literal["read", "write", "fineGrained"] = "write"
    owns: frozenset[str] | None = None
    resources: frozenset[str] = frozenset()
    fullname: str = ""  # shown beside the name

    def may_write(self, repo: RepoName) -> bool:
        if self.role == "fineGrained":
            return repo.resource.lower() in {resource.lower() for resource in self.resources}
        return self.role == "write" and self.owns_namespace(repo.owner)

    def may_read_private(self, repo: RepoName) -> bool:
        return self.may_write(repo) or (self.role == "read" and self.owns_namespace(repo.owner))

    def may_discuss(self, repo: RepoName) -> bool:
        """Open discussions and pull requests, and change one's own: every user may, on all repos that the user can read."""
        return self.role == "write" or self.may_write(repo)

    def may_administer(self, repo: RepoName) -> bool:
        """Create, move, delete, change settings. A token for a single repo can't."""
        return self.role == "write" and self.owns_namespace(repo.owner)

    def owns_namespace(self, namespace: str) -> bool:
        return self.owns is None or self._spelling(namespace) is not None

    def spelled_namespace(self, namespace: str) -> str:
        """A namespace as the account spells it, if it is its own; else as given."""
        return self._spelling(namespace) or namespace

    def _spelling(self, namespace: str) -> str | None:
        return spelled(namespace, sorted(self.owns or ()))


class Accounts:
    """The tokens of a Hub. Without any, every request has full access."""

    def __init__(self, tokens: Mapping[str, Account], secret: bytes) -> None:
        self._tokens = dict(tokens)
        self._secret = secret

    def add(self, token: str, account: Account) -> None:
        """May be called while the Hub runs. The first token ends full access for every request."""
        self._tokens = {**self._tokens, token: account}  # a new dict: another thread may be reading the old one

    def users(self) -> list[str]:
        """The names of all users."""
        return sorted({account.name for account in self._known()})

    def fullname(self, user: str) -> str:
        return next((one.fullname for one in self._known() if one.name == user and one.fullname), user)

    def organisations(self) -> list[str]:
        """The namespaces that belong to users and are not their own."""
        owned = {namespace for account in self._known() for namespace in account.owns or ()}
        return sorted(owned.difference(self.users()))

    def organisations_of(self, user: str) -> list[str]:
        owned = {namespace for account in self._known() if account.name == user for namespace in account.owns or ()}
        return sorted(owned.intersection(self.organisations()))

    def members(self, organisation: str) -> list[str]:
        return sorted({account.name for account in self._known() if organisation in (account.owns or ())})

    def _known(self) -> list[Account]:
        return list(self._tokens.values()) or [Account()]

    def identify(self, request: Request) -> Account | None:
        """The account of a request, None for an anonymous one. Raises Refusal (401) for invalid credentials."""
        if not self._tokens:
            return Account()
        token = _token(request.headers.get("authorization"))
        if token is None:
            return None
        if token.startswith(EXCHANGED_PREFIX):
            return self._exchanged(token)
        for known, account in self._tokens.items():
            if hmac.compare_digest(known.encode(), token.encode()):
                return account
        raise _invalid_credentials()

    def _exchanged(self, token: str) -> Account:
        try:
            claims = verify(self._secret, EXCHANGED, token.removeprefix(EXCHANGED_PREFIX))
        except SignatureError:
            raise _invalid_credentials() from None
        repo = parse_resource(str(claims["resource"]))
        return Account(repo.owner, "fineGrained", frozenset(), frozenset({repo.resource}))


def _invalid_credentials() -> Refusal:
    return Refusal(401, INVALID_CREDENTIALS, headers={"WWW-Authenticate": 'Basic realm="localhub"'})


def _token(authorization: str | None) -> str | None:
    """The token of a `Bearer` header, or the password of a `Basic` one, which git sends."""
    if not authorization:
        return None
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except ValueError:  # it is not base64, not ASCII, or not UTF-8 inside
            raise _invalid_credentials() from None
    raise _invalid_credentials()
