"""The workflow run that triggered this one, from the event file, and whether its artifacts can be trusted.

A `workflow_run` job has access to the repository's secrets, regardless of who started the run that triggered it. A run of code
from a fork can put anything into its artifacts, so they are not used.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .api import PUBLIC_API, Access

_PERMISSION = "Give the job `permissions: actions: read`, which is required to read the artifacts of another run."


class NoTrustedRunError(Exception):
    """There is no run whose artifacts can be used; the message says why. The search continues in other places."""


@dataclass(frozen=True)
class WorkflowRun:
    """A finished workflow run of this repository, and the access to its artifacts."""

    id: int
    title: str
    repository: str
    access: Access


def triggering_run(environment: Mapping[str, str]) -> WorkflowRun:
    """The run that triggered this job. Raises NoTrustedRunError if there is none, or if it is not trusted."""
    event = read_event(environment)
    run, repository, token = event.get("workflow_run"), environment.get("GITHUB_REPOSITORY"), environment.get("GITHUB_TOKEN")
    if not isinstance(run, Mapping) or type(run.get("id")) is not int or not repository:
        raise NoTrustedRunError("this job was not triggered by another run (workflow_run event)")
    title = f"run {run['id']} ({run.get('name')}, {run.get('conclusion')})"
    here, head = (full_name(run, key) for key in ("repository", "head_repository"))
    if here != repository:
        raise NoTrustedRunError(f"{title} belongs to {here or 'an unknown repository'} and not to {repository}: not trusted")
    if head != repository:
        raise NoTrustedRunError(f"{title} ran code of {head or 'a deleted repository'}, not of {repository}: not trusted")
    if run.get("event") == "pull_request_target":  # listed as a run of this repository, but started by any pull request
        raise NoTrustedRunError(f"{title} was started by pull_request_target, which any pull request can trigger: not trusted")
    if not token:
        raise NoTrustedRunError(f"the artifacts of {title} can't be listed: GITHUB_TOKEN is not set")
    return WorkflowRun(
        run["id"], title, repository, Access(environment.get("GITHUB_API_URL") or PUBLIC_API, token, _PERMISSION)
    )


def read_event(environment: Mapping[str, str]) -> Mapping[str, Any]:
    """The event that triggered this job; empty outside of GitHub Actions."""
    try:
        event = json.loads(Path(environment["GITHUB_EVENT_PATH"]).read_bytes())
    except (KeyError, OSError, ValueError):
        return {}
    return event if isinstance(event, Mapping) else {}


def full_name(run: Mapping[str, Any], key: str) -> str | None:
    """The owner/name of the repository under `key`; None if it was deleted."""
    repository = run.get(key)
    name = repository.get("full_name") if isinstance(repository, Mapping) else None
    return name if isinstance(name, str) else None
