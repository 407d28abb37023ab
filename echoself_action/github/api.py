"""A client of GitHub's REST API, whose failures become a HubError with a hint.

The token is sent to GitHub only: a download redirects to another host, for which httpx2 removes the token.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import httpx2

from ..errors import HubError

T = TypeVar("T")

PUBLIC_API = "https://api.github.com"
_SECONDS = 60  # without data, before a timeout
WAITS = (1, 2, 4)  # seconds, before each retry
_MAX_PAUSE = 60  # seconds that GitHub may ask for
_TRANSIENT = (408, 429, 500, 502, 503, 504)
_NETWORK = "Check the network and GITHUB_API_URL, and run the job again."


@dataclass(frozen=True)
class Access:
    """The URL of the API and the token. `permission_hint` says which permission the job needs for its requests."""

    api: str
    token: str = field(repr=False)
    permission_hint: str


@contextmanager
def github_client(access: Access, action: str, subject: str) -> Iterator[httpx2.Client]:
    """A client. Exceptions in the block become a HubError, with the `action` that failed and its `subject`."""
    headers = {
        "Accept": "application/vnd.github+json",
        "Accept-Encoding": "identity",
        "Authorization": f"Bearer {access.token}",
        "User-Agent": "echoself-action",
        "X-GitHub-Api-Version": "2022-11-28",
    }
    try:
        with httpx2.Client(base_url=access.api, headers=headers, timeout=_SECONDS, follow_redirects=True) as client:
            yield client
    except httpx2.HTTPStatusError as error:
        raise _refusal(error.response, access, action, subject) from error
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise HubError(
            f"GitHub can't be reached at {access.api}: {action} failed for {subject}: {reason}.", _NETWORK
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise HubError(
            f"The response of {access.api} is not a valid GitHub response: {action} failed for {subject}.", _NETWORK
        ) from error


def with_retries(call: Callable[[], T]) -> T:
    """The result of `call`, which is repeated up to three times if GitHub has a temporary problem or limits the rate.

    `call` must be one that may be carried out twice.
    """
    for wait in WAITS:
        try:
            return call()
        except (httpx2.HTTPStatusError, httpx2.TransportError) as error:
            pause = _pause_after(error, wait)
            if pause is None:
                raise
            time.sleep(pause)
    return call()


def _pause_after(error: httpx2.HTTPStatusError | httpx2.TransportError, default: float) -> float | None:
    """Seconds until the next attempt; None if none is made."""
    if isinstance(error, httpx2.TransportError):
        return default
    response = error.response
    if response.status_code not in _TRANSIENT and not _is_rate_limited(response):
        return None
    asked = response.headers.get("retry-after", "")
    if response.headers.get("x-ratelimit-remaining") == "0" and not asked.isdigit():
        reset = response.headers.get("x-ratelimit-reset", "")
        asked = str(max(1, int(reset) - int(time.time()))) if reset.isdigit() else ""
    pause = float(asked) if asked.isdigit() else default
    return pause if pause <= _MAX_PAUSE else None


def _is_rate_limited(response: httpx2.Response) -> bool:
    """GitHub limits rates with status 429, or 403 and one of two headers."""
    limited = response.headers.get("x-ratelimit-remaining") == "0" or "retry-after" in response.headers
    return response.status_code == httpx2.codes.TOO_MANY_REQUESTS or (
        response.status_code == httpx2.codes.FORBIDDEN and limited
    )


def _message(response: httpx2.Response) -> str:
    """GitHub's own reason, on one line; "" if it sent none."""
    try:
        message = response.json()["message"]
    except (ValueError, KeyError, TypeError, httpx2.StreamError):
        return ""
    return " ".join(str(message).split())[:200]


def _refusal(response: httpx2.Response, access: Access, action: str, subject: str) -> HubError:
    status = response.status_code
    message = _message(response)
    if _is_rate_limited(response):
        hint = "The rate limit was exceeded: run the job again later."
    elif "locked" in message:
        hint = "Unlock the conversation."
    elif status in (httpx2.codes.FORBIDDEN, httpx2.codes.NOT_FOUND):
        hint = access.permission_hint
    elif status == httpx2.codes.UNAUTHORIZED:
        hint = "Leave GITHUB_TOKEN as GitHub sets it."
    else:
        hint = "Run the job again later."
    return HubError(f"GitHub refused ({status}): {action} failed for {subject}{f': {message}' if message else ''}.", hint)
