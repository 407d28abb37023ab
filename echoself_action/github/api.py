"""A client of GitHub's REST API, whose failures become a HubError with a hint.

The token is sent to GitHub only: a download redirects to another host, for which httpx2 removes the token.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx2

from ..errors import HubError

PUBLIC_API = "https://api.github.com"
_SECONDS = 60  # without data, before a timeout
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


def _refusal(response: httpx2.Response, access: Access, action: str, subject: str) -> HubError:
    status = response.status_code
    rate_limited = response.headers.get("x-ratelimit-remaining") == "0" or "retry-after" in response.headers
    if status == httpx2.codes.TOO_MANY_REQUESTS or (status == httpx2.codes.FORBIDDEN and rate_limited):
        hint = "The rate limit was exceeded: run the job again later."
    elif status in (httpx2.codes.FORBIDDEN, httpx2.codes.NOT_FOUND):
        hint = access.permission_hint
    elif status == httpx2.codes.UNAUTHORIZED:
        hint = "Leave GITHUB_TOKEN as GitHub sets it."
    else:
        hint = "Run the job again later."
    return HubError(f"GitHub refused ({status}): {action} failed for {subject}.", hint)
