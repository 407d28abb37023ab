"""A release and its annotated tag: created once, completed after an interruption, and never replacing another."""

from dataclasses import replace

import pytest

from echoself_action.errors import HubError, InputError
from echoself_action.github.releases_api import GitHubRepository, Release, make_release, repository_of_job

from .server import REPOSITORY, GitHub

MARK = "https://hub.test/me/model/commit/abc"
RELEASE = Release("v7", "me/model v7", f"Better: {MARK}\n", MARK)
ABOUT = "me/model, which is published at abc"


@pytest.fixture
def repository(environment: dict[str, str]) -> GitHubRepository:
    return repository_of_job(environment | {"GITHUB_SHA": "c0ffee"})


def test_the_tag_is_annotated_and_on_the_commit_of_the_job(github: GitHub, repository: GitHubRepository) -> None:
    url = make_release(repository, RELEASE, ABOUT)
    assert url == f"https://github.test/{REPOSITORY}/releases/v7"
    made = github.releases["v7"]
    assert (made["name"], made["body"], made["make_latest"]) == (RELEASE.title, RELEASE.text, "false")
    assert github.tags["v7"]["type"] == "tag"
    annotated = github.tag_objects[github.tags["v7"]["sha"]]
    assert (annotated["object"], annotated["type"], annotated["message"]) == ("c0ffee", "commit", f"me/model v7\n\n{MARK}\n")


def test_repeating_a_release_creates_nothing(github: GitHub, repository: GitHubRepository) -> None:
    first = make_release(repository, RELEASE, ABOUT)
    before = (dict(github.tags), dict(github.releases))
    assert make_release(replace(repository, commit="another"), RELEASE, ABOUT) == first
    assert (github.tags, github.releases) == before


def test_a_release_interrupted_after_its_tag_is_completed(github: GitHub, repository: GitHubRepository) -> None:
    github.refuse = {"release": (502, {})}
    with pytest.raises(HubError, match=r"GitHub refused \(502\)"):
        make_release(repository, RELEASE, ABOUT)
    assert github.tags
    assert not github.releases
    github.refuse = {}
    make_release(repository, RELEASE, ABOUT)
    assert list(github.releases) == ["v7"]


def test_two_concurrent_jobs_create_one_release(github: GitHub, repository: GitHubRepository) -> None:
    first = make_release(repository, RELEASE, ABOUT)
    github.blind = True  # this one looked before the other was done
    assert make_release(repository, RELEASE, ABOUT) == first


@pytest.mark.parametrize("there", ["release", "annotated tag", "plain tag"])
def test_a_tag_in_use_is_not_changed(github: GitHub, repository: GitHubRepository, there: str) -> None:
    other = replace(RELEASE, text="of another model", mark="another model")
    if there == "plain tag":
        github.tags["v7"] = {"type": "commit", "sha": "c0ffee"}
    else:
        make_release(repository, other, ABOUT)
    if there == "annotated tag":
        github.releases.clear()
    before = (dict(github.tags), dict(github.releases))
    with pytest.raises(
        HubError, match=r"Tag v7 of the repository is already used by .* No release was created; the model is published"
    ):
        make_release(repository, RELEASE, ABOUT)
    assert (github.tags, github.releases) == before


def test_a_missing_permission_is_named(github: GitHub, repository: GitHubRepository) -> None:
    github.refuse = {"make": (403, {})}
    with pytest.raises(
        HubError, match=r"GitHub refused \(403\): creating the release v7 in me/repo failed for me/model"
    ) as caught:
        make_release(repository, RELEASE, ABOUT)
    assert "contents: write" in caught.value.hint
    assert "ghs_secret" not in f"{repository!r}{caught.value}"


def test_an_invalid_response_is_an_error(github: GitHub, repository: GitHubRepository) -> None:
    elsewhere = replace(repository, access=replace(repository.access, api="http://127.0.0.1:9"))
    with pytest.raises(HubError, match="can't be reached"):
        make_release(elsewhere, RELEASE, ABOUT)


@pytest.mark.parametrize("missing", ["GITHUB_REPOSITORY", "GITHUB_SHA", "GITHUB_TOKEN"])
def test_a_release_needs_a_repository_and_a_token(environment: dict[str, str], missing: str) -> None:
    given = environment | {"GITHUB_SHA": "c0ffee"}
    del given[missing]
    with pytest.raises(InputError, match=f"create_release requires {missing}") as caught:
        repository_of_job(given)
    assert "contents: write" in caught.value.hint
