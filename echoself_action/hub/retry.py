"""Requests to the Hub: retried if that is safe and may help; their errors become HubError.

huggingface_hub 2.4 itself retries these requests five times, after 1, 2, 4, 8 and 8 seconds or as long as the Hub asks for, on
408, 429, 500, 502, 503, 504 and on every network error:

    preupload, LFS batch, LFS PUT, LFS verify    on all of these
    HEAD of a file                               on these statuses, timeouts and failed connections
    GET of a file                                on 408 and 429; a broken or silent connection resumes at the last byte

`with_retries` does so for the rest: look-ups (whoami, model_info, refs), the creation of a repo, branch or tag, the commit,
and for the GET of a file the other statuses and a connection reset. huggingface_hub has timeouts for files only, so
`set_timeouts` sets one for every request.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from huggingface_hub import utils

from ..errors import HubError, MovedOnError
from .endpoint import Hub
from .huggingface_compat import configure_http_client

if TYPE_CHECKING:
    import httpx2

T = TypeVar("T")

WAITS = (1, 2, 4, 8)  # seconds, before each retry
MAX_PAUSE = 300  # seconds that the Hub may ask for: its rate limits have windows of five minutes
_TRANSIENT = (408, 429, 500, 502, 503, 504)
_RETRIED_BY_CLIENT = ("ConnectError", "ConnectTimeout", "ReadTimeout", "WriteTimeout", "PoolTimeout")  # of httpx2
_NETWORK = "Check the endpoint and the network, then run again."


class _LongPauseError(Exception):
    """The Hub asks for a longer pause than MAX_PAUSE."""


def request_timeout() -> float:
    """Seconds without a byte after which a request fails: huggingface_hub's own setting for files, or a minute."""
    return float(os.environ.get("HF_HUB_DOWNLOAD_TIMEOUT") or 60)


def set_timeouts() -> None:
    """Let every request time out, and fail if Retry-After asks for a pause longer than MAX_PAUSE."""
    configure_http_client(request_timeout(), _refuse_long_pause)


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed later: the Hub has a temporary problem, or the response did not arrive whole."""
    if isinstance(error, utils.HfHubHTTPError):
        return error.response.status_code in _TRANSIENT or is_aborted_exchange(error)
    if isinstance(error, (utils.OfflineModeIsEnabled, utils.LocalEntryNotFoundError)):
        return False  # the user asked for the first; before the second the client has retried
    return _is_malformed(error) or _is_network_error(error)


def is_aborted_exchange(error: BaseException) -> bool:
    """Whether the Hub gave up on the exchange of an id token after 10 seconds of its own, which it reports as an invalid grant.

    Other invalid grants are refusals (https://github.com/huggingface/hub-docs/issues/2757).
    """
    message = (error.server_message or "") if isinstance(error, utils.HfHubHTTPError) else ""
    return message.startswith("invalid_grant") and "aborted" in message


def is_transient_in_download(error: BaseException) -> bool:
    """The same for the download of a file, without the errors on which huggingface_hub has retried already."""
    if isinstance(error, utils.HfHubHTTPError) and error.response.status_code in (408, 429):
        return False
    return is_transient(error) and not (_is_from_httpx(error) and type(error).__name__ in _RETRIED_BY_CLIENT)


def with_retries(
    hub: Hub,
    repo_id: str,
    action: str,
    call: Callable[[], T],
    landed: Callable[[], T | None] = lambda: None,
    retry_on: Callable[[BaseException], bool] = is_transient,
) -> T:
    """The result of `call`, which is retried up to four times on the errors that `retry_on` accepts.

    `action` describes the call in messages ("publishing to main"). A call that must not be carried out twice needs `landed`: it
    checks whether the Hub carried out the call although its response was lost, and returns the result of the call if so.
    Raises HubError.
    """
    uncertain = False
    with hub_errors(hub, repo_id, action):
        for wait in (*WAITS, None):
            try:
                return call()
            except Exception as error:
                retriable = retry_on(error)
                uncertain |= retriable
                if uncertain and (result := landed()) is not None:
                    return result
                if not retriable or wait is None:
                    raise
                pause = _pause_of(getattr(error, "response", None), wait)
                hub.log(f"{action} failed: {error_message(error)}. Retrying in {pause:g} s.")
                time.sleep(pause)
    raise AssertionError("the last attempt returns or raises")


@contextmanager
def hub_errors(hub: Hub, repo_id: str, action: str) -> Iterator[None]:
    """Convert the errors of huggingface_hub inside the block to HubError. `action` is what failed then."""
    try:
        yield
    except Exception as error:
        converted = _converted(hub, f"{hub.repo_path(repo_id)} on {hub.endpoint}", action, _unwrapped(error))
        if converted is None:
            raise
        raise converted from error


def error_message(error: BaseException) -> str:
    """The first line of the error: the Hub's own message if it sent one, never a URL, which may be a signed one."""
    message = str(error)
    if isinstance(error, utils.HfHubHTTPError):
        message = error.server_message or error.response.reason_phrase
    return (message.strip() or repr(error)).splitlines()[0].rstrip(".")


def _converted(hub: Hub, where: str, action: str, error: BaseException) -> HubError | None:
    """None for an error that is not one of the Hub or the network."""
    message = error_message(error)
    status = error.response.status_code if isinstance(error, utils.HfHubHTTPError) else 0
    if is_aborted_exchange(error):
        return HubError(
            f"{hub.endpoint} aborted the exchange of the id token of this job: {action} failed: {message}.",
            "The Hub has a temporary problem: run again later, or use hf_token.",
        )
    if isinstance(error, utils.GatedRepoError):
        return HubError(f"{where} is gated: {action} failed.", "Accept its conditions on its page.")
    if status == 401 and hub.has_token:
        return HubError(
            f"{where} rejected the token: {action} failed: {message}.",
            "The token is invalid, revoked or expired. Create a new one, set HF_TOKEN to it, then run again.",
        )
    if isinstance(error, utils.RepositoryNotFoundError):
        reason = "the token has no access to it" if hub.has_token else "it is private and no token was given"
        return HubError(
            f"Repo {where} does not exist, or {reason}: {action} failed.", "Check repo_id and the access of the token."
        )
    if isinstance(error, utils.RevisionNotFoundError):
        return HubError(f"{where} has no such revision: {action} failed.", "Use an existing branch, tag or commit.")
    if isinstance(error, utils.EntryNotFoundError) and status:
        return HubError(f"{where}: {action} failed: {message}.", "Check the files of the repo.")
    if status in (409, 412):
        return MovedOnError(f"{where} refused ({status}): {action} failed: {message}.", _MOVED_ON)
    if status:
        hint = _HINTS.get(status, "If the message does not help, run again later.")
        return HubError(f"{where} refused ({status}): {action} failed: {message}.", hint)
    if isinstance(error, _LongPauseError):
        return HubError(f"{hub.endpoint} asks for a pause of {message}: {action} failed.", "Run again after that pause.")
    if isinstance(error, utils.OfflineModeIsEnabled):
        return HubError(
            f"Offline mode is enabled (HF_HUB_OFFLINE): {action} failed on {hub.endpoint}.", "Unset HF_HUB_OFFLINE."
        )
    if _is_malformed(error):
        return HubError(f"{hub.endpoint} sent an invalid response: {action} failed: {message}.", _NETWORK)
    if isinstance(error, utils.LocalEntryNotFoundError) or _is_network_error(error):
        return HubError(f"{hub.endpoint} can't be reached: {action} failed: {message}.", _NETWORK)
    return None


_MOVED_ON = "The branch has a new commit, which was not overwritten. Pull, then run again."
_HINTS = {
    401: "Set HF_TOKEN to a token with access to this repo.",
    403: "The token has no permission for this. Give it access to this repo: write access to publish.",
    429: "The rate limit of the Hub is reached. Run again later.",
}


def _unwrapped(error: BaseException) -> BaseException:
    """The cause, if huggingface_hub wraps the error of an upload or of the HEAD of a file in another."""
    wrapped = isinstance(error, utils.LocalEntryNotFoundError) or type(error) is RuntimeError
    return error.__cause__ if wrapped and error.__cause__ else error


def _is_malformed(error: BaseException) -> bool:
    return isinstance(error, (json.JSONDecodeError, UnicodeDecodeError))


def _is_network_error(error: BaseException) -> bool:
    """huggingface_hub passes on the errors of httpx2, and raises a bare OSError for a file of the wrong size."""
    bare = isinstance(error, OSError) and error.errno is None
    return bare or isinstance(error, ConnectionError) or _is_from_httpx(error)


def _is_from_httpx(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] == "httpx2"


def _refuse_long_pause(response: "httpx2.Response") -> None:
    if response.status_code in _TRANSIENT and (pause := _pause_of(response, 0)) > MAX_PAUSE:
        raise _LongPauseError(f"{pause:g} s, longer than the maximum of {MAX_PAUSE} s")


def _pause_of(response: "httpx2.Response | None", default: float) -> float:
    """Seconds that the Hub asks for before the next request, from either of its two headers."""
    if response is None:
        return default
    limit = utils.parse_ratelimit_headers(response.headers)
    if response.status_code == 429 and limit and limit.remaining == 0:
        return limit.reset_in_seconds + 1
    retry_after = response.headers.get("Retry-After", "").strip()
    return float(retry_after) if retry_after.isdigit() else default
