"""`comment: true`: the job summary of a run, however it ends, is one comment on the pull request of the run."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from echoself_action.github import api

from ..conftest import SMALL, Cli
from ..github.server import REPOSITORY, TOKEN, GitHub, running

MODEL = "--repo-id me/model --hub hub"
FAST = f"{SMALL} --tokenizer bytes --data docs/scene-0*.md"
TRAIN = f"train {FAST} --comment"


@pytest.fixture
def github(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GitHub]:
    """A job of run 50, for pull request 7."""
    with running() as server:
        monkeypatch.setattr(api, "WAITS", (0, 0, 0))
        event = tmp_path / "event.json"
        monkeypatch.setenv("GITHUB_EVENT_PATH", str(event))
        monkeypatch.setenv("GITHUB_EVENT_NAME", "pull_request")
        monkeypatch.setenv("GITHUB_REPOSITORY", REPOSITORY)
        monkeypatch.setenv("GITHUB_API_URL", server.url)
        monkeypatch.setenv("GITHUB_TOKEN", TOKEN)
        monkeypatch.setenv("GITHUB_RUN_ID", "50")
        monkeypatch.setenv("GITHUB_WORKFLOW_REF", f"{REPOSITORY}/.github/workflows/train.yml@refs/heads/main")
        sha = "c0ffee" * 6 + "c0ff"
        event.write_text(json.dumps({"pull_request": {"number": 7, "head": {"sha": sha, "repo": {"full_name": REPOSITORY}}}}))
        yield server


def summary(tmp_path: Path) -> str:
    return (tmp_path / "summary.md").read_text()


def test_a_run_comments_its_summary_with_the_curve_as_a_table(
    github: GitHub, echoself: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    echoself(TRAIN)
    (comment,) = github.comments
    assert (comment["issue"], "# Advanced to step " in comment["body"]) == (7, True)
    assert "mermaid" not in comment["body"]
    assert "| step | bits per byte |\n|---|---|\n| 10 |" in comment["body"]
    origin = (
        f"Written by [run 50](https://github.com/{REPOSITORY}/actions/runs/50) of `.github/workflows/train.yml` at commit "
        "`c0ffeec0ffee`. The next run updates this comment."
    )
    assert comment["body"].endswith(origin)
    assert f"comment: created on pull request 7 of {REPOSITORY}" in capsys.readouterr().out


def test_the_comment_says_how_the_last_run_ended(github: GitHub, echoself: Cli) -> None:
    def only() -> str:
        (comment,) = github.comments
        return str(comment["body"])

    cycle = f"cycle {FAST} {MODEL} --comment"
    echoself(f"{cycle} --gate max_val_loss=0.5")
    assert "did not pass the gate" in only()
    echoself(cycle)
    assert "# Published: " in only()
    echoself(f"{cycle} --checkpoint missing.pt", code=3)
    assert "# Failed: " in only()
    assert "missing.pt" in only()
    shutil.rmtree("echoself-model")
    echoself(f"deploy {MODEL} --comment", code=3)
    assert "There is no checkpoint in echoself-model" in only()


def test_invalid_inputs_are_commented_unless_it_is_unknown_where(github: GitHub, echoself: Cli) -> None:
    echoself(TRAIN)
    echoself(f"{TRAIN} --seed x", code=2)
    (comment,) = github.comments
    assert "# Failed: " in comment["body"]
    assert "--seed: 'x': input should be a valid integer" in comment["body"]
    echoself(f"cycle {FAST} --comment --repo-id not-valid", code=2)
    assert github.comments == [comment]


def test_an_internal_error_is_commented_as_a_failure(github: GitHub, echoself: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> int:
        raise RuntimeError("a bug")

    monkeypatch.setattr("echoself_action.modes.train.run", broken)
    echoself(TRAIN, code=1)
    assert "# Failed: a bug in echoself-action" in github.comments[0]["body"]
    assert "RuntimeError: a bug" in github.comments[0]["body"]


def test_each_of_several_models_has_its_own_comment(github: GitHub, echoself: Cli) -> None:
    Path(".github").mkdir()
    Path(".github/echoself.yml").write_text("models:\n  one: {seed: 1}\n  two: {seed: 2}\n")
    echoself(TRAIN)
    echoself(TRAIN)
    assert len(github.comments) == 2
    assert [f"echoself-model/{name}/" in one["body"] for name, one in zip(("one", "two"), github.comments, strict=True)] == [
        True
    ] * 2


def test_a_comparison_is_commented(github: GitHub, echoself: Cli) -> None:
    for seed in ("1", "2"):
        echoself(f"train {FAST} --seed {seed} --output-dir model-{seed}")
    echoself("compare --candidates model-1,model-2 --data docs/scene-0*.md --comment")
    assert "better than " in github.comments[0]["body"].splitlines()[2]


def test_without_permission_the_job_succeeds_and_says_what_to_change(
    github: GitHub, echoself: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    github.refuse = {"comment": (403, {})}
    echoself(TRAIN)
    line = "No comment was written on the pull request. GitHub refused (403): commenting failed for pull request 7 of me/repo"
    assert line in summary(tmp_path)
    assert "# Advanced to step " in summary(tmp_path)
    assert "pull-requests: write" in capsys.readouterr().out


def test_a_push_has_nothing_to_comment_on(
    github: GitHub, echoself: Cli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(os.environ["GITHUB_EVENT_PATH"]).write_text(json.dumps({"ref": "refs/heads/main"}))
    monkeypatch.setenv("GITHUB_EVENT_NAME", "push")
    echoself(TRAIN)
    assert "comment: none was written: the job runs for no pull request (event: push)" in capsys.readouterr().out
    assert github.requests == []


def test_without_the_input_nothing_is_asked(github: GitHub, echoself: Cli) -> None:
    echoself(f"train {FAST}")
    assert github.requests == []
