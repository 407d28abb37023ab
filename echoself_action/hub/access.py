"""What a token may do on the Hub, by `GET /api/whoami-v2`: its role, its namespaces, and the grants of a fine-grained token.

    {"name": ..., "orgs": [{"name": ..., "roleInOrg": ...}],
     "auth": {"accessToken": {"role": "fineGrained", "fineGrained": {
         "global": [...], "scoped": [{"entity": {"type": "model", "name": "owner/name"}, "permissions": ["repo.write"]}]}}}}

The role is read, write or fineGrained. A grant to a user or an organisation is for all of its repos, also new ones.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from huggingface_hub import utils

from ..errors import HubError, MissingTokenError
from .endpoint import Hub
from .oidc import RESOURCE
from .repo import Remote
from .retry import with_retries

_SETTINGS = "https://huggingface.co/settings/tokens"
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_WRITE = "repo.write"
_READS_ONLY = "read"  # role of a token, and of a member of an organisation


@dataclass(frozen=True)
class TokenAccess:
    """The access of a request to the Hub. `how` is what gives it: a token, keyless access, or none.

    `namespaces` are the account and the organisations in which it may write. `grants` are the repos and namespaces that a
    fine-grained token may write, None if it is not one, or if it has grants that are not of these kinds.
    """

    how: Literal["token", "keyless", "none"]
    account: str = ""
    role: str = ""
    namespaces: frozenset[str] = frozenset()
    grants: frozenset[str] | None = None

    def __str__(self) -> str:
        if self.how == "keyless":
            return "keyless access"
        if self.how == "none":
            return "no token"
        return f"{'fine-grained' if self.role == 'fineGrained' else self.role or 'a'} token of {self.account}"

    def why_not_create(self, repo_id: str) -> str:
        """Why the token can't create the repo; "" if it can, or if that is unknown."""
        owner = repo_id.partition("/")[0]
        if self.grants is not None:
            return "" if owner in self.grants else f"it is fine-grained, and may write only {_listed(self.grants)}"
        if self.how == "token" and self.role in ("write", "fineGrained") and owner not in self.namespaces:
            return f"{owner} is neither its account nor an organisation in which {self.account} may write"
        return ""


def require_write_access(hub: Hub) -> TokenAccess:
    """Check the token before any work. A Hub on this machine needs none.

    Raises MissingTokenError without a token, HubError for a token that the Hub rejects or that is read-only.
    """
    if hub.api.token is None and os.environ.get(RESOURCE):
        return TokenAccess("keyless")  # the token exchange has succeeded, and its tokens are for writing
    if hub.has_token:
        access = access_of(with_retries(hub, "the account", "looking up the token", hub.api.whoami))
        if access.role == _READS_ONLY:
            raise HubError(
                f"The token of {access.account} is read-only on {hub.endpoint}. Nothing was done.",
                "Create a token with write access, and set HF_TOKEN to it.",
            )
        return access
    if not _is_on_this_machine(hub):
        raise MissingTokenError(
            f"hf_token: missing, but writing to {hub.endpoint} requires a token. Nothing was done.",
            "Set HF_TOKEN to a token with write access (in a workflow: secrets.HF_TOKEN), or use hub: local to try things out.",
        )
    return TokenAccess("none")


def require_repo_access(hub: Hub, remote: Remote, access: TokenAccess, named_by: str = "repo_id") -> None:
    """Raises HubError if the token can't publish to this repo, or can't create it: before a night of training is in vain.

    The input `named_by` names the repo. Hubs that don't answer the question, and keyless access to a repo that does not exist,
    are left to the publish.
    """
    repo_id, where = remote.repo_id, hub.repo_path(remote.repo_id)
    if remote.model is not None or remote.state is not None:
        if access.how != "none" and _is_refused(hub, repo_id):
            raise HubError(
                f"The {access} has no write access to {where} on {hub.endpoint}. Nothing was done.",
                f"Give the token write access to the repo ({_SETTINGS}), or set {named_by} to a repo of yours.",
            )
        return
    why_not = access.why_not_create(repo_id)
    if why_not and not (_is_on_this_machine(hub) and access.grants is None):  # its accounts may own every namespace
        raise HubError(
            f"{where} does not exist on {hub.endpoint}, or the {access} can't see it, and the token can't create it: "
            f"{why_not}. Nothing was done.",
            f"Check {named_by}; or create the repo, and give the token write access to it ({_SETTINGS}).",
        )


def access_of(answer: Mapping[str, Any]) -> TokenAccess:
    """What the token of this answer to whoami may do."""
    token = answer.get("auth", {}).get("accessToken", {})
    account, role = str(answer.get("name")), str(token.get("role") or "")
    orgs = [org["name"] for org in answer.get("orgs") or () if org.get("roleInOrg") != _READS_ONLY]
    fine_grained = token.get("fineGrained")
    grants = _grants(fine_grained) if role == "fineGrained" and isinstance(fine_grained, Mapping) else None
    return TokenAccess("token", account, role, frozenset({account, *orgs}), grants)


def _grants(fine_grained: Mapping[str, Any]) -> frozenset[str] | None:
    """The model repos and namespaces that may be written; None if others, such as groups of repos, may be too."""
    if _WRITE in (fine_grained.get("global") or ()):
        return None
    entities = [one["entity"] for one in fine_grained.get("scoped") or () if _WRITE in one["permissions"]]
    if any(one["type"] not in ("model", "dataset", "space", "user", "org") or not one.get("name") for one in entities):
        return None
    return frozenset(one["name"] for one in entities if one["type"] in ("model", "user", "org"))


def _is_refused(hub: Hub, repo_id: str) -> bool:
    """Whether the Hub says that the token can't write the repo. False also if it does not know the question."""

    def ask() -> bool:
        try:
            hub.api.auth_check(repo_id, repo_type=hub.kind, write=True)
        except utils.HfHubHTTPError as error:
            if error.response.status_code not in (403, 404, 405):
                raise
            return error.response.status_code == 403
        return False

    return with_retries(hub, repo_id, "looking up the access of the token", ask)


def _is_on_this_machine(hub: Hub) -> bool:
    return urlsplit(hub.endpoint).hostname in _LOOPBACK


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names)[:5]) or "no model repo"
