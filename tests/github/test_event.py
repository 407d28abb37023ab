import json
from pathlib import Path
from typing import Any

import pytest

from echoself_action.github.event import NoTrustedRunError, triggering_run

from .server import RUN_ID, TOKEN, workflow_run_event


def test_triggering_run_reads_the_event_and_hides_the_token(environment: dict[str, str]) -> None:
    run = triggering_run(environment)
    assert (run.id, run.access.api, run.access.token) == (RUN_ID, environment["GITHUB_API_URL"], TOKEN)
    assert TOKEN not in repr(run)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"head_repository": {"full_name": "stranger/repo"}}, "ran code of stranger/repo, not of me/repo: not trusted"),
        ({"head_repository": None}, "a deleted repository"),
        ({"repository": {"full_name": "other/repo"}}, "belongs to other/repo"),
        ({"event": "pull_request_target"}, "pull_request_target"),
        ({"id": "77/../.."}, "this job was not triggered by another run"),
    ],
)
def test_runs_of_code_from_a_fork_are_not_trusted(environment: dict[str, str], changes: dict[str, Any], why: str) -> None:
    Path(environment["GITHUB_EVENT_PATH"]).write_text(json.dumps(workflow_run_event(**changes)))
    with pytest.raises(NoTrustedRunError, match=why):
        triggering_run(environment)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("GITHUB_TOKEN", "GITHUB_TOKEN is not set"),
        ("GITHUB_EVENT_PATH", "this job was not triggered by another run"),
        ("GITHUB_REPOSITORY", "this job was not triggered by another run"),
    ],
)
def test_a_missing_variable_is_explained(environment: dict[str, str], name: str, why: str) -> None:
    with pytest.raises(NoTrustedRunError, match=why):
        triggering_run({key: value for key, value in environment.items() if key != name})


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"workflow_run": 3}', "no JSON"])
def test_another_event_has_no_triggering_run(environment: dict[str, str], text: str) -> None:
    Path(environment["GITHUB_EVENT_PATH"]).write_text(text)
    with pytest.raises(NoTrustedRunError, match="this job was not triggered by another run"):
        triggering_run(environment)
