"""The artifacts of a workflow run: listed, downloaded up to a size limit, and verified by their digest."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from ..errors import HubError
from .api import github_client
from .event import WorkflowRun

_MAX_PAGES, _PAGE_SIZE = 10, 100


@dataclass(frozen=True)
class Artifact:
    """An artifact as listed by GitHub. `sha256` is the hex digest of its zip, "" if GitHub does not list one."""

    id: int
    name: str
    expired: bool
    sha256: str = ""


def list_artifacts(run: WorkflowRun) -> list[Artifact]:
    """The artifacts of `run`. Raises HubError if GitHub refuses the request or can't be reached."""
    found: list[Artifact] = []
    path = f"/repos/{run.repository}/actions/runs/{run.id}/artifacts"
    with github_client(run.access, "listing its artifacts", run.title) as client:
        for page in range(1, _MAX_PAGES + 1):
            response = client.get(path, params={"per_page": _PAGE_SIZE, "page": page})
            response.raise_for_status()
            rows = response.json()["artifacts"]
            found += [_artifact(row) for row in rows if _belongs_to(row, run)]
            if len(rows) < _PAGE_SIZE:
                break
    return found


def download(run: WorkflowRun, artifact: Artifact, target: Path, max_bytes: int) -> bool:
    """Download the zip of an artifact to `target`; returns False if GitHub has deleted it.

    Raises HubError if GitHub refuses the request, or if the zip is larger than `max_bytes` or has another digest.
    """
    digest, size = hashlib.sha256(), 0
    with github_client(run.access, f"downloading the artifact {artifact.name!r}", run.title) as client:
        path = f"/repos/{run.repository}/actions/artifacts/{artifact.id}/zip"
        with client.stream("GET", path) as response:
            if response.status_code == httpx2.codes.GONE:
                return False
            response.raise_for_status()
            with target.open("wb") as file:
                for block in response.iter_bytes(1 << 20):
                    size += len(block)
                    if size > max_bytes:
                        break
                    digest.update(block)
                    file.write(block)
    if size > max_bytes or artifact.sha256 not in ("", digest.hexdigest()):
        problem = (
            f"it is larger than {max_bytes:,} bytes"
            if size > max_bytes
            else "its sha256 differs from the one that GitHub lists"
        )
        raise HubError(f"The artifact {artifact.name!r} of {run.title} was not used: {problem}.", "Run the job again.")
    return True


def _belongs_to(row: Mapping[str, Any], run: WorkflowRun) -> bool:
    """Whether the artifact itself is listed as of this run, and not of code from a fork."""
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
