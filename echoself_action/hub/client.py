"""Which Hub, and the client that speaks to it; what the Hub refuses becomes a HubError that says what to change."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..errors import HubError, InputError, MissingTokenError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

LOCAL_FOLDER = Path(".echoself/hub")
PUBLIC_ENDPOINT = "https://huggingface.co"
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Hub:
    """A Hub that can be asked. `folder` is where a local one keeps its repos."""

    api: "HfApi"
    endpoint: str
    has_token: bool
    folder: Path | None = None

    def url(self, repo_id: str) -> str:
        return f"{self.endpoint}/{repo_id}"


@contextmanager
def open_hub(hub: str | None, token: str | None) -> Iterator[Hub]:
    """The Hub that `hub` names: a URL, `local` or a folder (started, and stopped at the end), or None for the usual one.

    Raises InputError for a URL that is none.
    """
    if hub and "://" in hub:
        if not hub.startswith(("http://", "https://")):
            raise InputError(f"hub: {hub!r} is no http or https URL. Nothing was done.", "Give a URL, `local`, or a folder.")
        yield _client(hub.rstrip("/"), token)
    elif hub:
        from ..localhub import LocalHub

        folder = LOCAL_FOLDER if hub == "local" else Path(hub)
        with LocalHub(folder) as server:
            yield _client(server.url, token, folder)
    else:
        yield _client(os.environ.get("HF_ENDPOINT", PUBLIC_ENDPOINT).rstrip("/"), token)


def require_write_access(hub: Hub) -> None:
    """Before any work: a token that may write, where the Hub is not on this machine.

    Raises InputError where there is none, HubError where the Hub doesn't know it or it may only read.
    """
    keyless = hub.api.token is None and "HF_OIDC_RESOURCE" in os.environ
    if keyless:
        return  # the exchange has shown who we are, and its token is for writing
    if hub.has_token:
        with asking(hub, "the account", "looking up the token"):
            account = hub.api.whoami()
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


@contextmanager
def asking(hub: Hub, repo_id: str, doing: str) -> Iterator[None]:
    """Turn what the client raises inside the block into a HubError. `doing` is what did not happen, then."""
    from huggingface_hub import errors

    where = f"{repo_id} on {hub.endpoint}"
    try:
        yield
    except errors.GatedRepoError as error:
        raise HubError(f"{where} is gated: {doing} failed.", "Accept its conditions on its page, with this account.") from error
    except errors.RepositoryNotFoundError as error:
        who = "the token given has no access to it" if hub.has_token else "it is private and no token was given"
        raise HubError(
            f"There is no repo {where}, or {who}: {doing} failed.", "Check repo_id, and the access of the token."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise HubError(f"{where} has no such revision: {doing} failed.", "Give an existing branch, tag or commit.") from error
    except errors.EntryNotFoundError as error:
        raise HubError(f"{where}: {doing} failed: {_first_line(error)}.", "Check the repo's files.") from error
    except errors.HfHubHTTPError as error:
        raise _refused(error, where, doing) from error
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError) as error:
        raise HubError(f"{hub.endpoint} can't be asked: {doing} failed: {_first_line(error)}.", _NETWORK) from error
    except Exception as error:
        if not _is_network_error(error):
            raise
        raise HubError(f"{hub.endpoint} can't be reached: {doing} failed: {_first_line(error)}.", _NETWORK) from error


_NETWORK = "Check the address and the network, and run it again."


def _refused(error: Exception, where: str, doing: str) -> HubError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    hints = {
        401: "The token is wrong or expired: make a new one, and set HF_TOKEN.",
        403: "The token may not write here: give it write access to this repo.",
        412: "Somebody published in the meantime: nothing of theirs was overwritten. Pull, and run it again.",
        429: "The Hub asks for a pause: run it again later.",
    }
    hint = hints.get(status or 0, "If the message does not help, run it again later.")
    return HubError(f"{where} refused ({status}): {doing} failed: {_first_line(error)}.", hint)


def _client(endpoint: str, token: str | None, folder: Path | None = None) -> Hub:
    if endpoint != PUBLIC_ENDPOINT:
        # Xet is the public Hub's own upload protocol; the client reads this once, when it is first imported
        os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import OIDCError

    anonymous = Hub(HfApi(endpoint, token=False), endpoint, has_token=False, folder=folder)
    if folder is not None:
        return anonymous  # a token of another Hub is not for this one
    if token:
        return Hub(HfApi(endpoint, token=token), endpoint, has_token=True)
    with asking(anonymous, "the account", "looking for a token"):
        try:
            found = get_token()
        except OIDCError as error:
            raise MissingTokenError(
                f"HF_OIDC_RESOURCE asks for keyless access, and there is none: {_first_line(error)}. Nothing was done.",
                "Give the job `permissions: id-token: write`, or drop HF_OIDC_RESOURCE and set HF_TOKEN.",
            ) from error
    # with None the client asks for its token at every request: a keyless one lives for an hour
    return Hub(HfApi(endpoint, token=None), endpoint, has_token=True) if found else anonymous


def _is_network_error(error: BaseException) -> bool:
    """The client lets through what its HTTP library raises, which is httpx in 1.x and httpx2 in 2.x."""
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] in ("httpx", "httpx2")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0].rstrip(".")
