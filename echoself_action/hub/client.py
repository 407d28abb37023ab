"""Selects the Hub and its token, and creates the client for it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import huggingface_hub
from huggingface_hub import constants, utils

from .. import libraries
from ..errors import InputError, MissingLocalHubError
from ..installation import localhub_command
from ..workspace import LOCAL_HUB, create_cache
from .endpoint import PUBLIC_ENDPOINT, Hub, Kind
from .huggingface_compat import xet_disabled
from .oidc import RESOURCE, sign_in, token_for
from .retry import hub_errors, set_timeouts

if TYPE_CHECKING:
    from localhub import LocalHub


@contextmanager
def open_hub(hub: str | None, token: str | None, log: Callable[[str], None] = print) -> Iterator[Hub]:
    """The Hub at `hub`: a URL, `local` or a folder (a local Hub that runs inside the block), or None for the default endpoint.

    Xet is the transfer protocol of the public Hub. With any other endpoint files are transferred over LFS inside the block,
    unless the user has set HF_HUB_DISABLE_XET. `log` gets a line for every retry.

    Raises InputError for an invalid URL, MissingLocalHubError without localhub, and MissingTokenError or HubError if keyless
    access fails.
    """
    if hub and "://" not in hub:
        folder = LOCAL_HUB if hub == "local" else Path(hub)
        with _local_hub(hub, folder) as server, xet_disabled():
            yield _client(server.url, token, log, folder)
        return
    if hub and not hub.startswith(("http://", "https://")):
        raise InputError(f"hub: {hub!r} is not an http or https URL. Nothing was done.", "Use a URL, `local`, or a folder.")
    endpoint = (hub or os.environ.get("HF_ENDPOINT", PUBLIC_ENDPOINT)).rstrip("/")
    xet_allowed = endpoint == PUBLIC_ENDPOINT or "HF_HUB_DISABLE_XET" in os.environ
    with nullcontext() if xet_allowed else xet_disabled():
        yield _client(endpoint, token, log)


def _local_hub(hub: str, folder: Path) -> "LocalHub":
    try:
        localhub = libraries.localhub
    except ModuleNotFoundError as error:
        if error.name != "localhub":
            raise
        raise MissingLocalHubError(f"hub: {hub}", localhub_command()) from None
    create_cache(folder)
    return localhub.LocalHub(folder)


def datasets_of(hub: Hub, repo_id: str) -> Hub:
    """The same Hub for dataset repos. A keyless token is valid for one repo, so `repo_id` gets its own.

    Raises InputError, MissingTokenError or HubError if there is no keyless token for it.
    """
    return _of_kind(hub, "dataset", repo_id, "upload_datasets")


def spaces_of(hub: Hub, repo_id: str) -> Hub:
    """As `datasets_of`, for Spaces."""
    return _of_kind(hub, "space", repo_id, "demo")


def _of_kind(hub: Hub, kind: Kind, repo_id: str, asked_by: str) -> Hub:
    other = replace(hub, kind=kind)
    if hub.api.token is not None or not os.environ.get(RESOURCE):
        return other
    token = token_for(hub, other.repo_path(repo_id), asked_by)
    return replace(other, api=huggingface_hub.HfApi(hub.endpoint, token=token))


def _client(endpoint: str, token: str | None, log: Callable[[str], None], folder: Path | None = None) -> Hub:
    if constants.HF_HUB_DISABLE_PROGRESS_BARS is None:  # a user who has set it to 0 keeps the bars
        utils.disable_progress_bars()
    set_timeouts()
    anonymous = Hub(huggingface_hub.HfApi(endpoint, token=False), endpoint, has_token=False, folder=folder, log=log)
    if folder is not None:
        return anonymous  # the tokens of another Hub are not sent to a local one
    resource = os.environ.get(RESOURCE)
    if token:
        if resource:
            log(f"using hf_token; {RESOURCE} is set to {resource}, but keyless access is not used")
        return Hub(huggingface_hub.HfApi(endpoint, token=token), endpoint, has_token=True, log=log)
    if resource:
        sign_in(anonymous, resource)
        log(f"using keyless access to {resource}{'; HF_TOKEN is ignored' if os.environ.get('HF_TOKEN') else ''}")
    with hub_errors(anonymous, "the account", "looking for a token"):
        found = huggingface_hub.get_token()
    # with token=None the client resolves its token at every request, because a keyless one expires after an hour
    return Hub(huggingface_hub.HfApi(endpoint, token=None), endpoint, has_token=True, log=log) if found else anonymous
