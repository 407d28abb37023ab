"""Keyless access (trusted publishing): exchanges the OIDC id token of a job for a Hub token, valid for one repo.

huggingface_hub does the exchange if HF_OIDC_RESOURCE names the repo, and repeats it before the token expires after an hour.
This module adds a diagnosis of failures: which step failed, and which claims of the id token were sent to the Hub.
"""

import base64
import json
import os
from collections.abc import Callable
from typing import TypeVar

import huggingface_hub
from huggingface_hub import constants, utils

from ..errors import InputError, MissingTokenError
from .endpoint import Hub
from .huggingface_compat import NoIdTokenError, exchange_id_token, get_id_token
from .retry import error_message, is_transient, with_retries

T = TypeVar("T")

RESOURCE = "HF_OIDC_RESOURCE"
_CLAIMS = ("sub", "repository", "ref", "workflow_ref", "environment", "event_name")  # those that a trusted publisher matches
_SETTINGS = "https://huggingface.co/docs/hub/trusted-publishers"


def sign_in(hub: Hub, resource: str) -> None:
    """Get a Hub token for `resource`, which huggingface_hub then uses.

    Raises HubError, InputError or MissingTokenError, with the claims of the id token, never the token itself.
    """
    if hub.endpoint != constants.ENDPOINT:
        raise InputError(
            f"hub: {hub.endpoint}, but {RESOURCE} requests keyless access, which works for {constants.ENDPOINT} only. "
            "Nothing was done.",
            "Set HF_ENDPOINT in the step's env instead of hub, or unset HF_OIDC_RESOURCE and use hf_token.",
        )
    claims = _claims_of(with_retries(hub, "the id token", "requesting an id token", _id_token))
    _exchange(hub, resource, claims, huggingface_hub.get_token)


def token_for(hub: Hub, resource: str, asked_by: str) -> str:
    """A token for another repo, valid for an hour; that repo must trust this workflow too. Raises as `sign_in` does.

    `asked_by` is the input that needs it.
    """
    id_token = with_retries(hub, "the id token", "requesting an id token", _id_token)
    return _exchange(hub, resource, _claims_of(id_token), lambda: exchange_id_token(id_token, resource, hub.endpoint), asked_by)


def _exchange(hub: Hub, resource: str, claims: str, get: Callable[[], T], asked_by: str = RESOURCE) -> T:
    """The token from `get`, which exchanges an id token with these claims. Raises HubError, InputError, MissingTokenError."""

    def exchange() -> T:
        try:
            return get()
        except utils.RepositoryNotFoundError as error:
            raise InputError(
                f"{asked_by}: repo {resource} does not exist on {hub.endpoint}. Nothing was done.",
                "Keyless access requires an existing repo: create it on the Hub, and add this workflow to its trusted "
                f"publishers ({_SETTINGS}). The claims of this job: {claims}.",
            ) from error
        except utils.HfHubHTTPError as error:
            if is_transient(error) or error.response.status_code not in (400, 401, 403):
                raise
            raise MissingTokenError(
                f"{hub.endpoint} refused keyless access to {resource}: {error_message(error)}. Nothing was done.",
                f"The trusted publisher in the settings of {resource} must match the claims of this job: {claims} "
                f"({_SETTINGS}).",
            ) from error

    return with_retries(hub, resource, "requesting a keyless token", exchange)


def _id_token() -> str:
    """An id token like the one that huggingface_hub sends, to read its claims."""
    if token := os.environ.get("HF_OIDC_ID_TOKEN"):
        return token
    try:
        return get_id_token()
    except utils.HfHubHTTPError as error:
        if error.response.status_code not in (400, 401, 403):
            raise
        raise MissingTokenError(
            f"GitHub refused to issue an id token for this job: {error_message(error)}. Nothing was done.",
            "Check `permissions: id-token: write`, and whether the organisation allows it; or use hf_token.",
        ) from error
    except NoIdTokenError as error:
        raise MissingTokenError(
            f"{RESOURCE} requests keyless access, but this job has no id token: {error_message(error)}. Nothing was done.",
            "Give the job `permissions: id-token: write`, or unset HF_OIDC_RESOURCE and set HF_TOKEN.",
        ) from error


def _claims_of(id_token: str) -> str:
    """The claims that identify the job, for messages. The signature is not verified here."""
    try:
        payload = id_token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        shown = [f"{name}={claims[name]}" for name in _CLAIMS if name in claims]
    except (IndexError, ValueError, TypeError):
        return "unreadable (the id token is invalid)"
    return ", ".join(shown) or "none that identify a job"
