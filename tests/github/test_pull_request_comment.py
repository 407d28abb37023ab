"""One comment on a pull request, found by its author and its mark, also when runs race. Those of others stay as they are."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from echoself_action.errors import HubError
from echoself_action.github import api
from echoself_action.github.pull_request_comment import (
    GitHubPullRequest,
    Mark,
    NoPullRequestError,
    pull_request_of,
    write_comment,
)

from .server import BOT, REPOSITORY, GitHub

MARK = Mark(".github/workflows/train.yml", "me/model@main", 100)
OURS = {"full_name": REPOSITORY}
FORK = {"full_name": "them/repo"}


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "WAITS", (0, 0, 0))


def event_of(environment: dict[str, str], name: str, **event: Any) -> dict[str, str]:
    Path(environment["GITHUB_EVENT_PATH"]).write_text(json.dumps(event))
    return environment | {"GITHUB_EVENT_NAME": name}


def pull_request_event(environment: dict[str, str], head: dict[str, str] | None = OURS) -> dict[str, str]:
    return event_of(environment, "pull_request", pull_request={"number": 7, "head": {"sha": "abc", "repo": head}})


@pytest.fixture
def pull_request(environment: dict[str, str]) -> GitHubPullRequest:
    return pull_request_of(pull_request_event(environment))


def bodies(github: GitHub) -> list[str]:
    return [one["body"] for one in github.comments]


def later(run: int) -> Mark:
    return Mark(MARK.workflow, MARK.model, run)


def test_the_comment_is_created_once_and_then_updated(github: GitHub, pull_request: GitHubPullRequest) -> None:
    assert write_comment(pull_request, MARK, "first") == "created"
    assert write_comment(pull_request, MARK, "second job of the run") == "updated"
    assert write_comment(pull_request, later(101), "third") == "updated"
    assert bodies(github) == [f"{later(101).lines}third"]
    assert github.comments[0]["issue"] == 7


def test_an_earlier_run_that_ends_later_changes_nothing(github: GitHub, pull_request: GitHubPullRequest) -> None:
    write_comment(pull_request, later(101), "newer")
    assert write_comment(pull_request, MARK, "older") == "unchanged"
    assert bodies(github) == [f"{later(101).lines}newer"]


@pytest.mark.parametrize("attempt", range(5))
def test_two_runs_that_race_end_with_one_comment(github: GitHub, pull_request: GitHubPullRequest, attempt: int) -> None:
    github.meet = 2  # both find no comment
    done: dict[int, str] = {}

    def race(run: int) -> None:
        done[run] = write_comment(pull_request, later(run), f"run {run}")

    threads = [threading.Thread(target=race, args=(run,)) for run in (101, 102)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    posts = [path for path, _ in github.requests if path.endswith("/issues/7/comments")]
    assert len(posts) == 6, "each listed the comments, created one, and listed them again"
    assert sorted(done) == [101, 102]
    assert bodies(github) == [f"{later(102).lines}run 102"]


def test_of_five_runs_that_race_one_comment_is_left(github: GitHub, pull_request: GitHubPullRequest) -> None:
    runs = range(101, 106)
    github.meet = len(runs)
    threads = [threading.Thread(target=write_comment, args=(pull_request, later(run), f"run {run}")) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    (body,) = bodies(github)
    assert body in [f"{later(run).lines}run {run}" for run in runs]


def test_comments_that_a_killed_run_left_are_deleted(github: GitHub, pull_request: GitHubPullRequest) -> None:
    for text in ("one", "two"):
        github.comment(7, BOT, f"{MARK.lines}{text}")
    assert write_comment(pull_request, later(101), "three") == "updated"
    assert [one["id"] for one in github.comments] == [101]
    assert bodies(github) == [f"{later(101).lines}three"]


def test_the_comment_is_found_behind_many_others(github: GitHub, pull_request: GitHubPullRequest) -> None:
    for number in range(250):
        github.comment(7, "somebody", f"comment {number}")
    write_comment(pull_request, MARK, "first")
    for number in range(100):
        github.comment(7, "somebody", f"comment {number}")
    assert write_comment(pull_request, MARK, "second") == "updated"
    assert [body for body in bodies(github) if MARK.line in body] == [f"{MARK.lines}second"]


def test_another_users_comment_with_the_mark_is_not_touched(github: GitHub, pull_request: GitHubPullRequest) -> None:
    github.comment(7, "mallory", f"{MARK.lines}passed")
    github.comment(7, BOT, f"> {MARK.lines}quoted by another workflow")
    assert write_comment(pull_request, MARK, "ours") == "created"
    assert write_comment(pull_request, MARK, "again") == "updated"
    assert bodies(github) == [
        f"{MARK.lines}passed",
        f"> {MARK.lines}quoted by another workflow",
        f"{MARK.lines}again",
    ]


def test_each_workflow_and_each_model_has_its_own(github: GitHub, pull_request: GitHubPullRequest) -> None:
    others = (Mark(MARK.workflow, "me/other@main", 1), Mark("-->", MARK.model, 1))
    for mark in (MARK, *others, MARK, *others):
        write_comment(pull_request, mark, "text")
    assert len(github.comments) == 3
    assert all("-->" not in mark.line.removesuffix("-->") for mark in (MARK, *others))


def test_a_comment_that_was_deleted_is_created_again(github: GitHub, pull_request: GitHubPullRequest) -> None:
    write_comment(pull_request, MARK, "first")
    github.comments.clear()
    assert write_comment(pull_request, MARK, "second") == "created"
    github.trouble["change"] = [(404, {})]  # deleted between the list and the update
    github.comments.clear()
    github.comment(7, BOT, f"{MARK.lines}gone")
    assert write_comment(pull_request, MARK, "third") == "updated"
    assert bodies(github) == [f"{MARK.lines}third"]


def test_a_comment_that_was_edited_is_written_again_and_one_without_its_mark_is_left(
    github: GitHub, pull_request: GitHubPullRequest
) -> None:
    write_comment(pull_request, MARK, "first")
    github.comments[0]["body"] = f"{MARK.lines}edited".replace("\n", "\r\n")
    assert write_comment(pull_request, MARK, "second") == "updated"
    github.comments[0]["body"] = "edited, and without the mark"
    assert write_comment(pull_request, MARK, "third") == "created"
    assert bodies(github) == ["edited, and without the mark", f"{MARK.lines}third"]


@pytest.mark.parametrize("endpoint", ["viewer", "comments", "comment", "change"])
@pytest.mark.parametrize("status", [(502, {}), (429, {"retry-after": "0"}), (403, {"retry-after": "0"})])
def test_a_temporary_problem_is_retried(
    github: GitHub, pull_request: GitHubPullRequest, endpoint: str, status: tuple[int, dict[str, str]]
) -> None:
    if endpoint == "change":
        write_comment(pull_request, MARK, "before")
    github.trouble[endpoint] = [status, status]
    write_comment(pull_request, MARK, "text")
    assert bodies(github) == [f"{MARK.lines}text"]
    assert github.trouble[endpoint] == []


def test_a_creation_whose_answer_was_lost_is_not_repeated(github: GitHub, pull_request: GitHubPullRequest) -> None:
    github.lost = {"comment"}
    assert write_comment(pull_request, MARK, "text") == "updated"
    assert bodies(github) == [f"{MARK.lines}text"]
    assert not github.lost


@pytest.mark.parametrize(
    "headers", [{"retry-after": "3600"}, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "9999999999"}]
)
def test_a_long_rate_limit_is_reported(github: GitHub, pull_request: GitHubPullRequest, headers: dict[str, str]) -> None:
    github.refuse = {"comments": (403, headers)}
    with pytest.raises(HubError) as caught:
        write_comment(pull_request, MARK, "text")
    assert "rate limit" in caught.value.hint
    assert len(github.requests) == 2, "the account and one list"


@pytest.mark.parametrize(
    ("head", "hint"),
    [(OURS, "pull-requests: write"), (FORK, "from a fork"), (None, "from a fork")],
    ids=["own", "fork", "gone"],
)
def test_a_missing_permission_is_named(
    github: GitHub, environment: dict[str, str], head: dict[str, str] | None, hint: str
) -> None:
    github.refuse = {"comment": (403, {})}
    with pytest.raises(HubError, match="Resource not accessible by integration") as caught:
        write_comment(pull_request_of(pull_request_event(environment, head)), MARK, "text")
    assert hint in caught.value.hint
    assert "ghs_secret" not in f"{caught.value}"


def test_a_token_of_the_base_repository_lacks_a_permission_also_for_a_fork(github: GitHub, environment: dict[str, str]) -> None:
    github.refuse = {"comment": (403, {})}
    target = event_of(environment, "pull_request_target", pull_request={"number": 9, "head": {"sha": "abc", "repo": FORK}})
    with pytest.raises(HubError) as caught:
        write_comment(pull_request_of(target), MARK, "text")
    assert "pull-requests: write" in caught.value.hint


def test_a_comment_of_the_issue_or_of_the_pull_request_target_is_of_the_pull_request(environment: dict[str, str]) -> None:
    commented = event_of(environment, "issue_comment", issue={"number": 8, "pull_request": {"url": "x"}})
    assert pull_request_of(commented).number == 8
    target = event_of(environment, "pull_request_target", pull_request={"number": 9, "head": {"sha": "abc", "repo": FORK}})
    assert (pull_request_of(target).number, pull_request_of(target).commit) == (9, "abc")


@pytest.mark.parametrize(
    ("name", "event"),
    [
        ("push", {"ref": "refs/heads/main"}),
        ("schedule", {"schedule": "0 0 * * *"}),
        ("issue_comment", {"issue": {"number": 8}}),
        ("workflow_run", {"workflow_run": {"event": "push", "pull_requests": [{"number": 3}]}}),
    ],
)
def test_other_events_have_no_pull_request(environment: dict[str, str], name: str, event: dict[str, Any]) -> None:
    with pytest.raises(NoPullRequestError, match=rf"no pull request \(event: {name}\)"):
        pull_request_of(event_of(environment, name, **event))


def test_without_a_token_or_outside_of_a_job_the_reason_is_said(environment: dict[str, str]) -> None:
    with pytest.raises(NoPullRequestError, match="GITHUB_TOKEN is not set"):
        pull_request_of(pull_request_event(environment) | {"GITHUB_TOKEN": ""})
    with pytest.raises(NoPullRequestError, match="not a job of GitHub Actions"):
        pull_request_of({})


def triggered(environment: dict[str, str], **run: Any) -> dict[str, str]:
    known = {"event": "pull_request", "head_sha": "abc", "head_branch": "topic", "head_repository": FORK, "pull_requests": []}
    return event_of(environment, "workflow_run", workflow_run=known | run)


def listed(number: int, repository: str) -> dict[str, Any]:
    return {"number": number, "base": {"repo": {"url": f"https://api.github.com/repos/{repository}"}}}


def test_the_pull_request_of_another_run_is_in_its_event(environment: dict[str, str]) -> None:
    run = triggered(environment, pull_requests=[listed(1, "them/repo"), listed(5, REPOSITORY)])
    assert (pull_request_of(run).number, pull_request_of(run).commit) == (5, "abc")


def test_the_pull_request_of_a_forks_run_is_found_by_its_branch_and_commit(github: GitHub, environment: dict[str, str]) -> None:
    def opened(number: int, sha: str) -> dict[str, Any]:
        return {"number": number, "head": {"ref": "topic", "sha": sha, "user": {"login": "them"}}}

    github.pulls = [opened(4, "older"), opened(6, "abc")]
    assert pull_request_of(triggered(environment)).number == 6
    github.pulls = [opened(4, "older")]
    with pytest.raises(NoPullRequestError, match="0 open pull requests have the commit abc"):
        pull_request_of(triggered(environment))
    with pytest.raises(NoPullRequestError, match="was deleted"):
        pull_request_of(triggered(environment, head_repository=None))
