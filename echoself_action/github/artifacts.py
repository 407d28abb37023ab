"""The artifacts of a workflow run, by GitHub's REST API: listed, downloaded within bounds, and checked against their digest."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from ..errors import HubError
from .api import asking
from .event import WorkflowRun

_MOST_PAGES, _PAGE = 10, 100


@dataclass(frozen=True)
class Artifact:
    """An artifact as GitHub lists it. `sha256` is its zip's, in hex, "" where GitHub gives none."""

    id: int
    name: str
    expired: bool
    sha256: str = ""


def list_artifacts(run: WorkflowRun) -> list[Artifact]:
    """The artifacts of `run`. Raises HubError where GitHub refuses, or can't be reached."""
    found: list[Artifact] = []
    path = f"/repos/{run.repository}/actions/runs/{run.id}/artifacts"
    with asking(run.access, "listing its artifacts", run.title) as client:
        for page in range(1, _MOST_PAGES + 1):
            response = client.get(path, params={"per_page": _PAGE, "page": page})
            response.raise_for_status()
            rows = response.json()["artifacts"]
            found += [_artifact(row) for row in rows if _is_of(row, run)]
            if len(rows) < _PAGE:
                break
    return found


def download(run: WorkflowRun, artifact: Artifact, target: Path, most_bytes: int) -> bool:
    """The artifact's zip, as the file `target`; False where GitHub has deleted it.

    Raises HubError where GitHub refuses, or where more than `most_bytes` arrive, or not what was uploaded.
    """
    digest, size = hashlib.sha256(), 0
    with asking(run.access, f"downloading the artifact {artifact.name!r}", run.title) as client:
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


def _is_of(row: Mapping[str, Any], run: WorkflowRun) -> bool:
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
