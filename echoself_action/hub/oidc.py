"""Keyless access (trusted publishing): a job's id token against a token of the Hub for one repo, and why there may be none.

huggingface_hub does it where HF_OIDC_RESOURCE names the repo, and does it again before the hour is over. What this adds is an
answer to "why not": which step failed, and which claims the Hub saw.
"""

import base64
import json
import os
from collections.abc import Callable
from typing import TypeVar

from ..errors import InputError, MissingTokenError
from .endpoint import Hub
from .retry import ask, first_line

T = TypeVar("T")

RESOURCE = "HF_OIDC_RESOURCE"
_CLAIMS = ("sub", "repository", "ref", "workflow_ref", "environment", "event_name")  # what a trusted publisher is told by
_SETTINGS = "https://huggingface.co/docs/hub/trusted-publishers"


def sign_in(hub: Hub, resource: str) -> None:
    """Get a token of the Hub for `resource`, which the client keeps.

    Raises InputError or MissingTokenError, with the claims of the id token, never the token, and HubError.
    """
    from huggingface_hub import constants, get_token

    if hub.endpoint != constants.ENDPOINT:
        raise InputError(
            f"hub: {hub.endpoint}, but {RESOURCE} asks for keyless access, which is to {constants.ENDPOINT}. Nothing was done.",
            "Name the Hub by HF_ENDPOINT in the step's env in place of hub, or drop HF_OIDC_RESOURCE and give hf_token.",
        )
    claims = _claims_of(ask(hub, "the id token", "asking for an id token", _id_token))
    _exchange(hub, resource, claims, get_token)


def token_for(hub: Hub, resource: str) -> str:
    """A token for another repo of the same job, where that repo trusts it too; it lives for an hour. Raises as `sign_in`."""
    from huggingface_hub._oidc import exchange_oidc_token

    id_token = ask(hub, "the id token", "asking for an id token", _id_token)

    def get() -> str:
        return str(exchange_oidc_token(subject_token=id_token, resource=resource, endpoint=hub.endpoint)["access_token"])

    return _exchange(hub, resource, _claims_of(id_token), get)


def _exchange(hub: Hub, resource: str, claims: str, get: Callable[[], T]) -> T:
    """What `get` gets of the Hub for an id token with these claims. Raises InputError, MissingTokenError or HubError."""
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    def exchange() -> T:
        try:
            return get()
        except RepositoryNotFoundError as error:
            raise InputError(
                f"{RESOURCE}: there is no repo {resource} on {hub.endpoint}. Nothing was done.",
                "A keyless token is for a repo that is there: create it on the Hub, and add this workflow to its trusted "
                f"publishers ({_SETTINGS}). This job shows {claims}.",
            ) from error
        except HfHubHTTPError as error:
            if error.response.status_code not in (400, 401, 403):
                raise
            raise MissingTokenError(
                f"{hub.endpoint} gave no keyless token for {resource}: {first_line(error)}. Nothing was done.",
                f"The trusted publisher in the settings of {resource} must fit what this job shows: {claims} ({_SETTINGS}).",
            ) from error

    return ask(hub, resource, "getting a keyless token", exchange)


def _id_token() -> str:
    """The id token that the client will show; this one is for its claims."""
    from huggingface_hub._oidc import get_oidc_token
    from huggingface_hub.errors import HfHubHTTPError, OIDCError

    if given := os.environ.get("HF_OIDC_ID_TOKEN"):
        return given
    try:
        return str(get_oidc_token())
    except OIDCError as error:
        raise MissingTokenError(
            f"HF_OIDC_RESOURCE asks for keyless access, and there is none: {first_line(error)}. Nothing was done.",
            "Give the job `permissions: id-token: write`, or drop HF_OIDC_RESOURCE and set HF_TOKEN.",
        ) from error
    except HfHubHTTPError as error:
        if error.response.status_code not in (400, 401, 403):
            raise
        raise MissingTokenError(
            f"GitHub gave this job no id token: {first_line(error)}. Nothing was done.",
            "Check `permissions: id-token: write`, and whether the organisation allows it; or give hf_token.",
        ) from error


def _claims_of(id_token: str) -> str:
    """What the id token says of the job, in words; nobody has checked its signature here."""
    try:
        payload = id_token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        shown = [f"{name}={claims[name]}" for name in _CLAIMS if name in claims]
    except (IndexError, ValueError, TypeError):
        return "an id token that can't be read"
    return ", ".join(shown) or "an id token without any of the claims that name a job"
