"""A client of GitHub's REST API; what goes wrong becomes an error that says what to change.

The token goes to GitHub alone. A download is a redirect to another host, and httpx2 takes the token out there.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx2

from ..errors import HubError

PUBLIC_API = "https://api.github.com"
_SECONDS = 60  # without a byte
_NETWORK = "Check the network and GITHUB_API_URL, and run it again."


@dataclass(frozen=True)
class Access:
    """Where GitHub's API is, and the token for it. `right` is advice for a job whose token may not do what it asks for."""

    api: str
    token: str = field(repr=False)
    right: str


@contextmanager
def asking(access: Access, doing: str, about: str) -> Iterator[httpx2.Client]:
    """A client; what goes wrong inside the block becomes a HubError. `doing` is what did not happen, then, for `about`."""
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
        raise _refused(error.response, access, doing, about) from error
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise HubError(f"GitHub can't be reached at {access.api}: {doing} failed for {about}: {reason}.", _NETWORK) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise HubError(f"What {access.api} answered is not GitHub's: {doing} failed for {about}.", _NETWORK) from error


def _refused(response: httpx2.Response, access: Access, doing: str, about: str) -> HubError:
    status = response.status_code
    paused = response.headers.get("x-ratelimit-remaining") == "0" or "retry-after" in response.headers
    if status == httpx2.codes.TOO_MANY_REQUESTS or (status == httpx2.codes.FORBIDDEN and paused):
        hint = "GitHub asks for a pause (rate limit): run it again later."
    elif status in (httpx2.codes.FORBIDDEN, httpx2.codes.NOT_FOUND):
        hint = access.right
    elif status == httpx2.codes.UNAUTHORIZED:
        hint = "Leave GITHUB_TOKEN as GitHub sets it."
    else:
        hint = "Run it again later."
    return HubError(f"GitHub refused ({status}): {doing} failed for {about}.", hint)
