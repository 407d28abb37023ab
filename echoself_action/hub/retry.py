"""A question to the Hub: asked again where that is safe and may help, and put into words where it is refused.

What huggingface_hub 2.4 repeats by itself, five times, after 1, 2, 4, 8 and 8 seconds or what the Hub asks for, on 408, 429,
500, 502, 503, 504 and on every error of the network:

    preupload, LFS batch, LFS PUT, LFS verify    all of it
    HEAD of a file                               the statuses, timeouts, and connections that are not made
    GET of a file                                408 and 429; where the connection ends or is silent it goes on at that byte

What it does not, and `ask` does: look-ups (whoami, model_info, refs), the creation of a repo, branch or tag, the commit, and of
a file's GET the other statuses and a reset. The client knows no timeout beyond those of files either: `set_timeouts`.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from ..errors import HubError, MovedOnError
from .endpoint import Hub

if TYPE_CHECKING:
    import httpx2

T = TypeVar("T")

WAITS = (1, 2, 4, 8)  # seconds, before each repeat
LONGEST_PAUSE = 300  # seconds that the Hub may ask for: it counts requests in windows of five minutes
_PASSING = (408, 429, 500, 502, 503, 504)
_NETWORK = "Check the address and the network, and run it again."


class _LongPauseError(Exception):
    """The Hub asks for a pause that no run waits for."""


def silence() -> float:
    """Seconds without a byte after which a request is given up: the client's own setting for files, or a minute."""
    return float(os.environ.get("HF_HUB_DOWNLOAD_TIMEOUT") or 60)


def set_timeouts() -> None:
    """Let the client give up on a silent Hub, and not wait for as long as any Retry-After says.

    Where it does so already, it keeps its connections, and the certificates that a new one would read anew.
    """
    from huggingface_hub.utils import _http

    factory = _ClientFactory(silence())
    if factory != _http._GLOBAL_CLIENT_FACTORY:
        _http.set_client_factory(factory)


@dataclass(frozen=True)
class _ClientFactory:
    """Makes the client's HTTP client, which gives up after `timeout` seconds of silence."""

    timeout: float

    def __call__(self) -> "httpx2.Client":
        from huggingface_hub.utils._http import default_client_factory

        client = default_client_factory()
        client.timeout = self.timeout
        client.event_hooks = {**client.event_hooks, "response": [_refuse_long_pause]}
        return client


def is_passing(error: BaseException) -> bool:
    """Whether the same question may well be answered in a moment: the Hub is in trouble, or the answer did not arrive whole."""
    from huggingface_hub import errors

    if isinstance(error, errors.HfHubHTTPError):
        return error.response.status_code in _PASSING
    if isinstance(error, (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError)):
        return False  # the first is meant; before the second the client has tried again
    return _is_garbled(error) or _is_network_error(error)


def ask(
    hub: Hub,
    repo_id: str,
    doing: str,
    call: Callable[[], T],
    landed: Callable[[], T | None] = lambda: None,
    repeats: Callable[[BaseException], bool] = is_passing,
) -> T:
    """What `call` returns, made again up to four times on the errors that `repeats` names. `doing` is what it does.

    A call that would do harm the second time comes with `landed`: a look at whether it was carried out though its answer was
    lost, which then gives what it would have returned. Raises HubError.
    """
    uncertain = False
    with asking(hub, repo_id, doing):
        for wait in (*WAITS, None):
            try:
                return call()
            except Exception as error:
                again = repeats(error)
                uncertain |= again
                if uncertain and (result := landed()) is not None:
                    return result
                if not again or wait is None:
                    raise
                pause = _pause_of(getattr(error, "response", None), wait)
                hub.say(f"{doing} failed: {first_line(error)}. It is tried again in {pause:g} s.")
                time.sleep(pause)
    raise AssertionError("the last try returns or raises")


@contextmanager
def asking(hub: Hub, repo_id: str, doing: str) -> Iterator[None]:
    """Turn what the client raises inside the block into a HubError. `doing` is what did not happen, then."""
    try:
        yield
    except Exception as error:
        told = _in_words(hub, f"{hub.named(repo_id)} on {hub.endpoint}", doing, _reason(error))
        if told is None:
            raise
        raise told from error


def first_line(error: BaseException) -> str:
    """What the error says, in a line: the Hub's own words where there are any, never a URL, which may be a signed one."""
    from huggingface_hub.errors import HfHubHTTPError

    said = error.server_message or error.response.reason_phrase if isinstance(error, HfHubHTTPError) else str(error)
    return (said.strip() or repr(error)).splitlines()[0].rstrip(".")


def _in_words(hub: Hub, where: str, doing: str, error: BaseException) -> HubError | None:
    """None where the error is none of the Hub's."""
    from huggingface_hub import errors

    said = first_line(error)
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else 0
    if isinstance(error, errors.GatedRepoError):
        return HubError(f"{where} is gated: {doing} failed.", "Accept its conditions on its page, with this account.")
    if status == 401 and hub.has_token:
        return HubError(
            f"{where} does not accept the token, or no longer does: {doing} failed: {said}.",
            "It is wrong, revoked or expired: make a new one, set HF_TOKEN to it, and run it again.",
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        who = "the token given has no access to it" if hub.has_token else "it is private and no token was given"
        return HubError(f"There is no repo {where}, or {who}: {doing} failed.", "Check repo_id, and the access of the token.")
    if isinstance(error, errors.RevisionNotFoundError):
        return HubError(f"{where} has no such revision: {doing} failed.", "Give an existing branch, tag or commit.")
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return HubError(f"{where}: {doing} failed: {said}.", "Check the repo's files.")
    if status in (409, 412):
        return MovedOnError(f"{where} refused ({status}): {doing} failed: {said}.", _MOVED_ON)
    if status:
        hint = _HINTS.get(status, "If the message does not help, run it again later.")
        return HubError(f"{where} refused ({status}): {doing} failed: {said}.", hint)
    if isinstance(error, _LongPauseError):
        return HubError(f"{hub.endpoint} asks for a pause of {said}: {doing} failed.", "Run it again after that.")
    if isinstance(error, (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError)):
        return HubError(f"{hub.endpoint} can't be asked: {doing} failed: {said}.", _NETWORK)
    if _is_garbled(error):
        return HubError(f"{hub.endpoint} gave an answer that can't be read: {doing} failed: {said}.", _NETWORK)
    if _is_network_error(error):
        return HubError(f"{hub.endpoint} can't be reached: {doing} failed: {said}.", _NETWORK)
    return None


_MOVED_ON = "Somebody published in the meantime: nothing of theirs was overwritten. Pull, and run it again."
_HINTS = {
    401: "Set HF_TOKEN to a token that has access.",
    403: "The token may not do that here: give it access to this repo, to write where it is to publish.",
    429: "The Hub asks for a pause: run it again later.",
}


def _reason(error: BaseException) -> BaseException:
    """The error of the Hub inside one that the client wraps around it: of an upload, or of the look at a file."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    wrapped = isinstance(error, LocalEntryNotFoundError) or type(error) is RuntimeError
    return error.__cause__ if wrapped and error.__cause__ else error


def _is_garbled(error: BaseException) -> bool:
    return isinstance(error, (json.JSONDecodeError, UnicodeDecodeError))


def _is_network_error(error: BaseException) -> bool:
    """The client lets through what its HTTP library raises, and says by a bare OSError that a file has not its size."""
    bare = isinstance(error, OSError) and error.errno is None
    return bare or isinstance(error, ConnectionError) or type(error).__module__.partition(".")[0] == "httpx2"


def _refuse_long_pause(response: "httpx2.Response") -> None:
    if response.status_code in _PASSING and (pause := _pause_of(response, 0)) > LONGEST_PAUSE:
        raise _LongPauseError(f"{pause:g} s, and no run waits longer than {LONGEST_PAUSE} s")


def _pause_of(response: "httpx2.Response | None", otherwise: float) -> float:
    """Seconds that the Hub asks for before the next request, in either of the two headers that say so."""
    from huggingface_hub.utils._http import parse_ratelimit_headers

    if response is None:
        return otherwise
    limit = parse_ratelimit_headers(response.headers)
    if response.status_code == 429 and limit and limit.remaining == 0:
        return limit.reset_in_seconds + 1
    asked = response.headers.get("Retry-After", "").strip()
    return float(asked) if asked.isdigit() else otherwise
