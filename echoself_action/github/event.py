"""Which run triggered this one, by the event that GitHub wrote down; and may its artifacts be trusted?

A `workflow_run` job has the repository's secrets, whoever started the run that it follows. The artifacts of a run for
somebody else's code are that person's to fill, so they are not taken.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .api import PUBLIC_API, Access

_RIGHT = "Give the job `permissions: actions: read`, which the artifacts of another run need."


class NothingToAskError(Exception):
    """There is no run whose artifacts could be taken; the text says why. No error of the user's: others places remain."""


@dataclass(frozen=True)
class WorkflowRun:
    """A finished workflow run of this repository, and what it takes to ask GitHub about it."""

    id: int
    title: str
    repository: str
    access: Access


def triggering_run(environment: Mapping[str, str]) -> WorkflowRun:
    """The run that triggered this job. Raises NothingToAskError where there is none, or none to be trusted."""
    event = _event(environment)
    run, repository, token = event.get("workflow_run"), environment.get("GITHUB_REPOSITORY"), environment.get("GITHUB_TOKEN")
    if not isinstance(run, Mapping) or type(run.get("id")) is not int or not repository:
        raise NothingToAskError("no other run triggered this one (that is so in a workflow_run event)")
    title = f"run {run['id']} ({run.get('name')}, {run.get('conclusion')})"
    here, head = (_full_name(run, key) for key in ("repository", "head_repository"))
    if here != repository:
        raise NothingToAskError(f"{title} belongs to {here or 'an unknown repository'} and not to {repository}: not trusted")
    if head != repository:
        raise NothingToAskError(f"{title} ran code of {head or 'a repository that is gone'}, not of {repository}: not trusted")
    if run.get("event") == "pull_request_target":  # it counts as this repository's, with anybody's pull request
        raise NothingToAskError(f"{title} was started by pull_request_target, which anybody's pull request does: not trusted")
    if not token:
        raise NothingToAskError(f"{title} can't be asked for: there is no GITHUB_TOKEN")
    return WorkflowRun(run["id"], title, repository, Access(environment.get("GITHUB_API_URL") or PUBLIC_API, token, _RIGHT))


def _event(environment: Mapping[str, str]) -> Mapping[str, Any]:
    try:
        event = json.loads(Path(environment["GITHUB_EVENT_PATH"]).read_bytes())
    except (KeyError, OSError, ValueError):
        return {}
    return event if isinstance(event, Mapping) else {}


def _full_name(run: Mapping[str, Any], key: str) -> str | None:
    repository = run.get(key)
    name = repository.get("full_name") if isinstance(repository, Mapping) else None
    return name if isinstance(name, str) else None
