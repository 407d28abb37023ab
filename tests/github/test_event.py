import json
from pathlib import Path
from typing import Any

import pytest

from echoself_action.github.event import NothingToAskError, triggering_run

from .server import RUN_ID, TOKEN, workflow_run_event


def test_the_triggering_run_is_the_events_and_its_token_does_not_show(environment: dict[str, str]) -> None:
    run = triggering_run(environment)
    assert (run.id, run.access.api, run.access.token) == (RUN_ID, environment["GITHUB_API_URL"], TOKEN)
    assert TOKEN not in repr(run)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"head_repository": {"full_name": "stranger/repo"}}, "ran code of stranger/repo, not of me/repo: not trusted"),
        ({"head_repository": None}, "a repository that is gone"),
        ({"repository": {"full_name": "other/repo"}}, "belongs to other/repo"),
        ({"event": "pull_request_target"}, "pull_request_target"),
        ({"id": "77/../.."}, "no other run triggered this one"),
    ],
)
def test_a_run_that_a_stranger_could_have_filled_is_not_trusted(
    environment: dict[str, str], changes: dict[str, Any], why: str
) -> None:
    Path(environment["GITHUB_EVENT_PATH"]).write_text(json.dumps(workflow_run_event(**changes)))
    with pytest.raises(NothingToAskError, match=why):
        triggering_run(environment)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("GITHUB_TOKEN", "there is no GITHUB_TOKEN"),
        ("GITHUB_EVENT_PATH", "no other run triggered this one"),
        ("GITHUB_REPOSITORY", "no other run triggered this one"),
    ],
)
def test_without_what_it_takes_it_says_so(environment: dict[str, str], name: str, why: str) -> None:
    with pytest.raises(NothingToAskError, match=why):
        triggering_run({key: value for key, value in environment.items() if key != name})


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"workflow_run": 3}', "no JSON"])
def test_another_event_has_no_triggering_run(environment: dict[str, str], text: str) -> None:
    Path(environment["GITHUB_EVENT_PATH"]).write_text(text)
    with pytest.raises(NothingToAskError, match="no other run triggered this one"):
        triggering_run(environment)
