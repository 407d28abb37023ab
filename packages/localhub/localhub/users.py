"""Users and organisations of the command line: `--user alice:hf_x:read`, `--org team:alice,bob`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .accounts import EXCHANGED_PREFIX, Account
from .names import RepoName, parse_resource
from .refusal import Refusal

Role = Literal["read", "write", "fineGrained"]
ROLES: dict[str, Role] = {"read": "read", "write": "write", "fine-grained": "fineGrained"}
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")  # of a Bearer header, RFC 6750


@dataclass(frozen=True)
class User:
    """One token of a user; a user may have several. `repos`: what a fineGrained token may read and write."""

    name: str
    token: str
    role: Role = "write"
    repos: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Organisation:
    """A namespace that belongs to several users; `members` is empty if all users are.

    `fullname` is shown beside its name. `private`: new repos are private unless the request says otherwise.
    """

    name: str
    members: tuple[str, ...] = ()
    fullname: str = ""
    private: bool = False


def parse_user(text: str) -> User:
    """`NAME:TOKEN[:ROLE]`, or `NAME:@FILE[:ROLE]` with the token in a file. Raises ValueError, without the token in it.

    ROLE: read, write, fine-grained, or `fine-grained=REPO,...` for the repos that the token may read and write.
    """
    name, _, rest = text.partition(":")
    token, colon, role = rest.rpartition(":")
    kind, equals, repos = role.partition("=")
    if not colon or (kind not in ROLES and rest.startswith("@")):  # the name of a file may contain a colon
        token, kind, equals, repos = rest, "write", "", ""
    name = _namespace(name)
    if kind not in ROLES or (equals and kind != "fine-grained"):
        raise ValueError(f"{name}: invalid role, expected read, write, fine-grained or fine-grained=OWNER/NAME,...")
    if token.startswith("@"):
        token = _read_token(name, Path(token[1:]))
    if token in ("", *ROLES):
        raise ValueError(f"{name}: missing token, expected NAME:TOKEN or NAME:@FILE, with an optional :ROLE")
    if not _TOKEN.fullmatch(token) or token.startswith(EXCHANGED_PREFIX):
        raise ValueError(f"{name}: invalid token, expected letters, digits and -._~+/=, not starting with {EXCHANGED_PREFIX}")
    try:
        resources = frozenset(parse_resource(repo).resource for repo in repos.split(",") if repo)
    except Refusal as error:
        raise ValueError(f"{name}: {error}") from None
    return User(name, token, ROLES[kind], resources)


def parse_organisation(text: str) -> Organisation:
    """`NAME[:MEMBER,...]`. Raises ValueError."""
    name, colon, members = text.partition(":")
    listed = tuple(member for member in members.split(",") if member)
    if colon and not listed:
        raise ValueError(f"{name}: no members after the colon; without a colon, every user is a member")
    return Organisation(_namespace(name), listed)


def accounts_of(users: Sequence[User], organisations: Sequence[Organisation]) -> dict[str, Account]:
    """The accounts by their tokens. Raises ValueError if users and organisations contradict each other."""
    names = {user.name for user in users}
    spelling = {name.lower(): name for name in sorted(names)}
    if other := sorted(names - set(spelling.values())):
        raise ValueError(f"{other[0]} and {spelling[other[0].lower()]} are one name: case makes no difference")
    seen = set(spelling)
    for organisation in organisations:
        if organisation.name.lower() in seen:
            raise ValueError(f"{organisation.name} is the name of two namespaces: users and organisations share their names")
        seen.add(organisation.name.lower())
        if unknown := sorted(member for member in organisation.members if member.lower() not in spelling):
            raise ValueError(f"{organisation.name}: {', '.join(unknown)} is not a user of this Hub: add --user")
        if not users:
            raise ValueError(f"{organisation.name} has no members: add --user")
    accounts: dict[str, Account] = {}
    for user in users:
        if user.token in accounts:
            raise ValueError(f"{user.name} has the same token as {accounts[user.token].name}")
        own_name = user.name.lower()
        orgs = {one.name for one in organisations if own_name in map(str.lower, one.members or names)}
        accounts[user.token] = Account(user.name, user.role, frozenset({user.name, *orgs}), user.repos)
    return accounts


def _namespace(name: str) -> str:
    try:
        return RepoName("model", name, "any").owner
    except Refusal:
        raise ValueError(f"{name!r} is not a valid name of a user or an organisation") from None


def _read_token(name: str, path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ValueError(f"{name}: the file of the token, {path}, can't be read: {reason}") from None
