"""Trusted publishing: exchanges the OIDC id token of a CI job for an access token for one repo and one hour (RFC 8693).

The issuer shares a key with this Hub (JSON web tokens signed with HS256), so tests can issue id tokens themselves. GitHub's own
id tokens, signed with its private key, are not supported.
"""

import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .accounts import EXCHANGED, EXCHANGED_PREFIX
from .names import RepoName, parse_resource
from .refusal import Refusal
from .signing import SignatureError, decode, sign

LIFETIME = 3600  # seconds
GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
ID_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105


@dataclass(frozen=True)
class TrustedPublishing:
    """The CI jobs that are trusted.

    `publishers`: for a resource (`owner/name`, `datasets/owner/name`), the claims that an id token must have to get an
    access token for it, such as {"repository": "octo/train"}.
    """

    issuer: str
    key: bytes = field(repr=False)
    publishers: Mapping[str, Mapping[str, str]]

    def exchange(self, request: Mapping[str, Any], audience: str, secret: bytes) -> tuple[RepoName, str]:
        """The repo and the access token for it. Raises Refusal. The caller checks whether the repo exists."""
        if request.get("grant_type") != GRANT_TYPE or request.get("subject_token_type") != ID_TOKEN_TYPE:
            raise _refused("unsupported_grant_type: only id tokens can be exchanged")
        resource = str(request.get("resource"))
        repo = parse_resource(resource)
        claims = self._verified(str(request.get("subject_token")), audience)
        expected = {name.lower(): trusted for name, trusted in self.publishers.items()}.get(repo.resource.lower())
        if expected is None or any(claims.get(name) != value for name, value in expected.items()):
            shown = {name: claims.get(name) for name in expected or ("repository", "sub")}
            raise _refused(f"no trusted publisher of {repo.resource} matches the id token, which says {shown}")
        return repo, EXCHANGED_PREFIX + sign(secret, EXCHANGED, {"resource": repo.resource}, LIFETIME)

    def _verified(self, id_token: str, audience: str) -> dict[str, Any]:
        try:
            header, payload, signature = id_token.split(".")
            algorithm, claims = json.loads(decode(header)).get("alg"), json.loads(decode(payload))
            given = decode(signature)
        except (ValueError, AttributeError, RecursionError, SignatureError):
            raise _refused("the id token is no JSON web token") from None
        expected = hmac.digest(self.key, f"{header}.{payload}".encode(), hashlib.sha256)
        if algorithm != "HS256" or not isinstance(claims, dict) or not hmac.compare_digest(given, expected):
            raise _refused("the id token is not signed by the issuer")
        if claims.get("iss") != self.issuer:
            raise _refused(f"the id token is issued by {claims.get('iss')}, not by {self.issuer}")
        if claims.get("aud") != audience:
            raise _refused(f"the id token is for {claims.get('aud')}, and this is {audience}")
        if not isinstance(claims.get("exp"), int) or claims["exp"] < time.time():
            raise _refused("the id token has run out")
        return claims


def _refused(reason: str) -> Refusal:
    return Refusal(401, f"invalid_grant: {reason}")
