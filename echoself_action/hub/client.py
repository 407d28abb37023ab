"""Which Hub, and the client that speaks to it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..errors import HubError, InputError, MissingLocalHubError, MissingTokenError
from .endpoint import PUBLIC_ENDPOINT, Hub
from .oidc import RESOURCE, sign_in, token_for
from .retry import ask, asking, set_timeouts

if TYPE_CHECKING:
    from localhub import LocalHub

LOCAL_FOLDER = Path(".echoself/hub")
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@contextmanager
def open_hub(hub: str | None, token: str | None, say: Callable[[str], None] = print) -> Iterator[Hub]:
    """The Hub that `hub` names: a URL, `local` or a folder (started, and stopped at the end), or None for the usual one.

    `say` is told of every wait of ours.

    Raises InputError for a URL that is none, MissingLocalHubError for a local one where localhub is not installed.
    """
    if hub and "://" in hub:
        if not hub.startswith(("http://", "https://")):
            raise InputError(f"hub: {hub!r} is no http or https URL. Nothing was done.", "Give a URL, `local`, or a folder.")
        yield _client(hub.rstrip("/"), token, say)
    elif hub:
        folder = LOCAL_FOLDER if hub == "local" else Path(hub)
        with _local_hub(hub, folder) as server:
            yield _client(server.url, token, say, folder)
    else:
        yield _client(os.environ.get("HF_ENDPOINT", PUBLIC_ENDPOINT).rstrip("/"), token, say)


def _local_hub(hub: str, folder: Path) -> "LocalHub":
    try:
        from localhub import LocalHub
    except ModuleNotFoundError as error:
        if error.name != "localhub":
            raise
        raise MissingLocalHubError(f"hub: {hub}") from None
    return LocalHub(folder)


def datasets_of(hub: Hub, repo_id: str) -> Hub:
    """The same Hub, asked about dataset repos. A keyless token is for one repo, so `repo_id` gets one of its own.

    Raises InputError, MissingTokenError or HubError where there is none to be had.
    """
    datasets = replace(hub, kind="dataset")
    if hub.api.token is not None or not os.environ.get(RESOURCE):
        return datasets
    from huggingface_hub import HfApi

    return replace(datasets, api=HfApi(hub.endpoint, token=token_for(hub, datasets.named(repo_id))))


def require_write_access(hub: Hub) -> None:
    """Before any work: a token that may write, where the Hub is not on this machine.

    Raises InputError where there is none, HubError where the Hub doesn't know it or it may only read.
    """
    if hub.api.token is None and os.environ.get(RESOURCE):
        return  # the exchange has shown who we are, and its token is for writing
    if hub.has_token:
        account = ask(hub, "the account", "looking up the token", hub.api.whoami)
        if account.get("auth", {}).get("accessToken", {}).get("role") == "read":
            raise HubError(
                f"The token of {account.get('name')} may only read on {hub.endpoint}. Nothing was done.",
                "Make a token with write access, and set HF_TOKEN to it.",
            )
    elif urlsplit(hub.endpoint).hostname not in _LOOPBACK:
        raise MissingTokenError(
            f"hf_token: none given, and writing to {hub.endpoint} needs one. Nothing was done.",
            "Set HF_TOKEN to a token with write access (in a workflow: secrets.HF_TOKEN), or use hub: local to try things out.",
        )


def _client(endpoint: str, token: str | None, say: Callable[[str], None], folder: Path | None = None) -> Hub:
    if endpoint != PUBLIC_ENDPOINT:
        # Xet is the public Hub's own upload protocol; the client reads this once, when it is first imported
        os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from huggingface_hub import HfApi, get_token

    set_timeouts()
    anonymous = Hub(HfApi(endpoint, token=False), endpoint, has_token=False, folder=folder, say=say)
    if folder is not None:
        return anonymous  # a token of another Hub is not for this one
    resource = os.environ.get(RESOURCE)
    if token:
        if resource:
            say(f"hf_token is used; the keyless access to {resource} that {RESOURCE} asks for is not")
        return Hub(HfApi(endpoint, token=token), endpoint, has_token=True, say=say)
    if resource:
        sign_in(anonymous, resource)
        say(f"keyless access to {resource} is used{'; HF_TOKEN is not' if os.environ.get('HF_TOKEN') else ''}")
    with asking(anonymous, "the account", "looking for a token"):
        found = get_token()
    # with None the client asks for its token at every request: a keyless one lives for an hour
    return Hub(HfApi(endpoint, token=None), endpoint, has_token=True, say=say) if found else anonymous
