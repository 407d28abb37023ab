"""The artifacts of a workflow run, by GitHub's REST API: listed, downloaded within bounds, and checked against their digest.

The token goes to GitHub alone. A download is a redirect to another host, and httpx2 takes the token out there.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from ..errors import HubError
from .event import Run

_MOST_PAGES, _PAGE = 10, 100
_SECONDS = 60  # without a byte
_NETWORK = "Check the network and GITHUB_API_URL, and run it again."


@dataclass(frozen=True)
class Artifact:
    """An artifact as GitHub lists it. `sha256` is its zip's, in hex, "" where GitHub gives none."""

    id: int
    name: str
    expired: bool
    sha256: str = ""


def list_artifacts(run: Run) -> list[Artifact]:
    """The artifacts of `run`. Raises HubError where GitHub refuses, or can't be reached."""
    found: list[Artifact] = []
    path = f"/repos/{run.repository}/actions/runs/{run.id}/artifacts"
    with _asking(run, "listing its artifacts") as client:
        for page in range(1, _MOST_PAGES + 1):
            response = client.get(path, params={"per_page": _PAGE, "page": page})
            response.raise_for_status()
            rows = response.json()["artifacts"]
            found += [_artifact(row) for row in rows if _is_of(row, run)]
            if len(rows) < _PAGE:
                break
    return found


def download(run: Run, artifact: Artifact, target: Path, most_bytes: int) -> bool:
    """The artifact's zip, as the file `target`; False where GitHub has deleted it.

    Raises HubError where GitHub refuses, or where more than `most_bytes` arrive, or not what was uploaded.
    """
    digest, size = hashlib.sha256(), 0
    with _asking(run, f"downloading the artifact {artifact.name!r}") as client:
        path = f"/repos/{run.repository}/actions/artifacts/{artifact.id}/zip"
        with client.stream("GET", path) as response:
            if response.status_code == httpx2.codes.GONE:
                return False
            response.raise_for_status()
            with target.open("wb") as file:
                for block in response.iter_bytes(1 << 20):
                    size += len(block)
                    if size > most_bytes:
                        break
                    digest.update(block)
                    file.write(block)
    if size > most_bytes or artifact.sha256 not in ("", digest.hexdigest()):
        wrong = f"it has more than {most_bytes:,} bytes" if size > most_bytes else "its sha256 is not the one that GitHub lists"
        raise HubError(f"The artifact {artifact.name!r} of {run.title} was not used: {wrong}.", "Run it again.")
    return True


def _is_of(row: Mapping[str, Any], run: Run) -> bool:
    """Whether GitHub says of an artifact itself that it is of this run, and of no fork's code."""
    origin = row.get("workflow_run") or {}
    return origin.get("id", run.id) == run.id and origin.get("head_repository_id") == origin.get("repository_id")


def _artifact(row: Mapping[str, Any]) -> Artifact:
    kind, _, digest = str(row.get("digest") or "").partition(":")
    return Artifact(
        id=int(row["id"]),
        name=str(row["name"]),
        expired=bool(row["expired"]),
        sha256=digest if kind == "sha256" else "",
    )


@contextmanager
def _asking(run: Run, doing: str) -> Iterator[httpx2.Client]:
    """A client; what goes wrong inside the block becomes a HubError. `doing` is what did not happen, then."""
    headers = {
        "Accept": "application/vnd.github+json",
        "Accept-Encoding": "identity",
        "Authorization": f"Bearer {run.token}",
        "User-Agent": "echoself-action",
        "X-GitHub-Api-Version": "2022-11-28",
    }
    try:
        with httpx2.Client(base_url=run.api, headers=headers, timeout=_SECONDS, follow_redirects=True) as client:
            yield client
    except httpx2.HTTPStatusError as error:
        raise _refused(error.response, run, doing) from error
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise HubError(f"GitHub can't be reached at {run.api}: {doing} failed for {run.title}: {reason}.", _NETWORK) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise HubError(f"What {run.api} answered is not GitHub's: {doing} failed for {run.title}.", _NETWORK) from error


def _refused(response: httpx2.Response, run: Run, doing: str) -> HubError:
    status = response.status_code
    paused = response.headers.get("x-ratelimit-remaining") == "0" or "retry-after" in response.headers
    if status == httpx2.codes.TOO_MANY_REQUESTS or (status == httpx2.codes.FORBIDDEN and paused):
        hint = "GitHub asks for a pause (rate limit): run it again later."
    elif status in (httpx2.codes.FORBIDDEN, httpx2.codes.NOT_FOUND):
        hint = "Give the job `permissions: actions: read`, which the artifacts of another run need."
    elif status == httpx2.codes.UNAUTHORIZED:
        hint = "Leave GITHUB_TOKEN as GitHub sets it."
    else:
        hint = "Run it again later."
    return HubError(f"GitHub refused ({status}): {doing} failed for {run.title}.", hint)
