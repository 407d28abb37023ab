"""The private parts of huggingface_hub that this package uses. Check this file whenever the pinned version changes."""

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx2
from huggingface_hub import HfApi, _oidc, constants
from huggingface_hub.errors import OIDCError
from huggingface_hub.utils import _http


@contextmanager
def xet_disabled() -> Iterator[None]:
    """Files are transferred over LFS inside the block, whether or not hf_xet is installed.

    huggingface_hub has no option for this, neither of HfApi nor of a call. It reads HF_HUB_DISABLE_XET from the environment
    once, when it is first imported, and this constant at every transfer.
    """
    before = constants.HF_HUB_DISABLE_XET
    constants.HF_HUB_DISABLE_XET = True
    try:
        yield
    finally:
        constants.HF_HUB_DISABLE_XET = before


class InvalidCardError(Exception):
    """The Hub does not accept the front matter of a card, for the reasons in the message."""


def validate_card(api: HfApi, card: str, kind: str) -> None:
    """Have the Hub check the README.md of a `kind` of repo, as the client does before it commits one.

    Raises InvalidCardError, or HfHubHTTPError.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a card without a license
        try:
            api._validate_yaml(card, repo_type=kind, token=api.token)
        except ValueError as error:
            if isinstance(error, json.JSONDecodeError):
                raise  # not the answer of a Hub
            reasons = [line.removeprefix("- ").rstrip(".") for line in str(error).splitlines()[1:]]
            raise InvalidCardError("; ".join(reasons) or str(error)) from error


@dataclass(frozen=True)
class _ClientFactory:
    """Creates the HTTP client of huggingface_hub, with a timeout in seconds and a hook for every response."""

    timeout: float
    on_response: Callable[[httpx2.Response], None]

    def __call__(self) -> httpx2.Client:
        client = _http.default_client_factory()
        client.timeout = self.timeout
        client.event_hooks = {**client.event_hooks, "response": [self.on_response]}
        return client


def configure_http_client(timeout: float, on_response: Callable[[httpx2.Response], None]) -> None:
    """Set the timeout in seconds of every request, and what is called with every response.

    A client that has these already is kept, with its connections and the certificates that it has loaded.
    """
    factory = _ClientFactory(timeout, on_response)
    if factory != _http._GLOBAL_CLIENT_FACTORY:
        _http.set_client_factory(factory)


class NoIdTokenError(Exception):
    """The job has no OIDC id token, for the reason in the message."""


def get_id_token() -> str:
    """The OIDC id token of this job, from its CI provider. Raises NoIdTokenError, or HfHubHTTPError if the provider refuses."""
    try:
        return str(_oidc.get_oidc_token())
    except OIDCError as error:
        raise NoIdTokenError(str(error)) from error


def exchange_id_token(id_token: str, resource: str, endpoint: str) -> str:
    """An access token of the Hub for `resource`. Raises HfHubHTTPError."""
    return str(_oidc.exchange_oidc_token(subject_token=id_token, resource=resource, endpoint=endpoint)["access_token"])
