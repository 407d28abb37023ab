"""create_release and tag, through the front door: the local Hub, and GitHub's API on loopback."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from echoself_action.hub.client import open_hub

from ..conftest import SMALL, Cli
from ..github.server import TOKEN, GitHub, job_environment, running

TRAIN, DEPLOY = f"train --tokenizer bytes {SMALL}", "deploy --hub hub --repo-id me/model"


@pytest.fixture
def trained(begun: Cli) -> dict[str, str]:
    return begun(TRAIN)


@pytest.fixture
def github(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[GitHub]:
    with running() as server:
        for name, value in (job_environment(server, tmp_path) | {"GITHUB_SHA": "c0ffee"}).items():
            monkeypatch.setenv(name, value)
        yield server


def tags() -> dict[str, str]:
    with open_hub("hub", None) as hub:
        return {ref.name: ref.target_commit for ref in hub.api.list_repo_refs("me/model").tags}


def test_a_published_model_gets_a_tag_and_a_release_once(
    echoself: Cli, trained: dict[str, str], github: GitHub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not echoself(DEPLOY, "--create-release --dry-run")["tag"]
    first = echoself(DEPLOY, "--create-release")
    assert (first["tag"], first["release_url"]) == ("v20", "https://github.test/me/repo/releases/v20")
    assert tags() == {"v20": first["commit_sha"]}
    text = github.releases["v20"]["body"]
    assert f"/me/model/commit/{first['commit_sha']}" in text
    assert f"{float(trained['val_loss']):.4f} nats per token" in text
    assert 'from_pretrained("me/model", revision="v20")' in text
    assert github.tags["v20"]["type"] == "tag"
    again = echoself(DEPLOY, "--create-release")
    assert (again["deployed"], again["tag"], again["release_url"]) == ("false", "v20", first["release_url"])
    assert len(github.releases) == 1
    assert TOKEN not in capsys.readouterr().out
    stamped = echoself(DEPLOY, "--tag timestamp")
    assert stamped["tag"].startswith("hf-deploy-2")
    assert echoself(DEPLOY, "--tag timestamp --create-release")["tag"] == stamped["tag"]
    assert set(tags()) == {"v20", stamped["tag"]}
    assert set(github.releases) == {"v20", stamped["tag"]}


def test_an_invalid_release_is_reported_before_any_work_and_a_failed_one_after_publishing(
    echoself: Cli,
    trained: dict[str, str],
    github: GitHub,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    github.refuse = {"make": (403, {})}
    echoself(DEPLOY, "--create-release", code=4)
    message = capsys.readouterr().err
    assert "creating the release v20 in me/repo failed for me/model, which is published at" in message
    assert "permissions: contents: write" in message
    github.refuse = {}
    assert echoself(DEPLOY, "--create-release")["release_url"]
    monkeypatch.delenv("GITHUB_TOKEN")
    for mode in (f"{DEPLOY} --output-dir none", f"cycle --hub hub --repo-id me/other {SMALL} --output-dir none"):
        echoself(mode, "--create-release", code=2)
        assert "create_release requires GITHUB_TOKEN" in capsys.readouterr().err
    assert not Path("none").exists()
    echoself(DEPLOY, "--create-release --create-pr", code=2)
    assert "a release is of a published model" in capsys.readouterr().err
