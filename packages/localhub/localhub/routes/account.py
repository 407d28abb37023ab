"""`whoami`, and the token exchange of trusted publishing."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..accounts import Account
from ..names import parse_resource
from ..refusal import Refusal, repo_not_found
from ..trusted_publishing import LIFETIME
from ..users import Organisation
from ..web import Json, endpoint_of, signed_in, state_of, with_json


def whoami(request: Request) -> Response:
    account = signed_in(request)
    profiles = state_of(request).organisations
    orgs = [profiles.get(name.lower(), Organisation(name)) for name in sorted((account.owns or frozenset()) - {account.name})]
    return JSONResponse(
        {
            "type": "user",
            "id": account.name,
            "name": account.name,
            "fullname": state_of(request).accounts.fullname(account.name),
            "isPro": False,
            "orgs": [
                {"type": "org", "name": org.name, "fullname": org.fullname or org.name, "roleInOrg": "write"} for org in orgs
            ],
            "auth": {"type": "access_token", "accessToken": _token(account)},
        }
    )


def _token(account: Account) -> Json:
    """The role of the token; of a fine-grained one also what it grants."""
    token: Json = {"displayName": account.name, "role": account.role}
    if account.role == "fineGrained":
        repos = [parse_resource(resource) for resource in sorted(account.resources)]
        scoped = [
            {
                "entity": {"_id": repo.resource, "type": repo.kind, "name": repo.id},
                "permissions": ["repo.content.read", "repo.write"],
            }
            for repo in repos
        ]
        token["fineGrained"] = {"canReadGatedRepos": False, "global": [], "scoped": scoped}
    return token


def exchange_token(request: Request, body: Json) -> Response:
    hub = state_of(request)
    if hub.publishing is None:
        raise Refusal(401, "invalid_grant: this Hub has no trusted publishers")
    repo, token = hub.publishing.exchange(body, endpoint_of(request), hub.storage.secret)
    if not hub.storage.exists(hub.storage.spelled(repo)):
        raise repo_not_found(True)
    return JSONResponse(
        {
            "access_token": token,
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "token_type": "bearer",
            "expires_in": LIFETIME,
        }
    )


routes = [
    Route("/api/whoami-v2", whoami, methods=["GET"]),
    Route("/oauth/token", with_json(exchange_token), methods=["POST"]),
]
