"""Creates a release on an annotated tag of the repository, by GitHub's REST API. Repeating it changes nothing.

A mark in the text identifies the tag and the release, so that the next run can complete an interrupted one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx2

from ..errors import HubError, InputError
from .api import PUBLIC_API, Access, github_client

_PERMISSION = "Give the job `permissions: contents: write`, which tags and releases require, and run it again."


@dataclass(frozen=True)
class GitHubRepository:
    """The repository of this job, and the commit that it runs on."""

    name: str
    commit: str
    access: Access


@dataclass(frozen=True)
class Release:
    """`mark` is part of `text`, and identifies this release among others with its tag."""

    tag: str
    title: str
    text: str
    mark: str


def repository_of_job(environment: Mapping[str, str]) -> GitHubRepository:
    """The repository of this job. Raises InputError if the repository, commit or token is not set."""
    names = ("GITHUB_REPOSITORY", "GITHUB_SHA", "GITHUB_TOKEN")
    if missing := [name for name in names if not environment.get(name)]:
        raise InputError(
            f"create_release requires {', '.join(missing)}, which is not set. Nothing was done.",
            "In a workflow, set create_release: true under `with:` (a config file does not receive the token), and give the "
            "job `permissions: contents: write`. Elsewhere, set these environment variables.",
        )
    repository, commit, token = (environment[name] for name in names)
    return GitHubRepository(repository, commit, Access(environment.get("GITHUB_API_URL") or PUBLIC_API, token, _PERMISSION))


def make_release(repository: GitHubRepository, release: Release, subject: str) -> str:
    """Create the tag and the release unless they exist; returns the URL of the release.

    `subject` is for error messages. Raises HubError if GitHub refuses the request, or if the tag is used for something else.
    """
    base = f"/repos/{repository.name}"
    with github_client(repository.access, f"creating the release {release.tag} in {repository.name}", subject) as client:
        found = _found(client, base, release)
        if found is None:
            _tag(client, base, repository, release)
            body = {"tag_name": release.tag, "name": release.title, "body": release.text}
            # not "latest", which stays with the releases of the code
            response = client.post(f"{base}/releases", json=body | {"make_latest": "false"})
            if response.status_code == httpx2.codes.UNPROCESSABLE_CONTENT:  # created by another job in the meantime
                found = _found(client, base, release)
            if found is None:
                found = response.raise_for_status().json()
        return str(found["html_url"])


def _found(client: httpx2.Client, base: str, release: Release) -> Mapping[str, Any] | None:
    found = _get(client, f"{base}/releases/tags/{quote(release.tag)}")
    if found is not None and release.mark not in str(found["body"]):
        raise _tag_in_use(release, f"the release {found['html_url']}")
    return found


def _tag(client: httpx2.Client, base: str, repository: GitHubRepository, release: Release) -> None:
    reference = f"{base}/git/ref/tags/{quote(release.tag)}"
    there = _get(client, reference)
    if there is None:
        message = f"{release.title}\n\n{release.mark}\n"
        body = {"tag": release.tag, "message": message, "object": repository.commit, "type": "commit"}
        made = client.post(f"{base}/git/tags", json=body).raise_for_status().json()
        response = client.post(f"{base}/git/refs", json={"ref": f"refs/tags/{release.tag}", "sha": made["sha"]})
        if response.status_code != httpx2.codes.UNPROCESSABLE_CONTENT:
            response.raise_for_status()
            return
        there = _get(client, reference)  # created by another job in the meantime
        if there is None:
            response.raise_for_status()
    assert there
    target = there["object"]
    tag = _get(client, f"{base}/git/tags/{target['sha']}") if target["type"] == "tag" else None
    if tag is None or release.mark not in str(tag["message"]):
        raise _tag_in_use(release, f"{target['type']} {target['sha']}")


def _get(client: httpx2.Client, path: str) -> Mapping[str, Any] | None:
    response = client.get(path)
    if response.status_code == httpx2.codes.NOT_FOUND:
        return None
    found: Mapping[str, Any] = response.raise_for_status().json()
    return found


def _tag_in_use(release: Release, by: str) -> HubError:
    return HubError(
        f"Tag {release.tag} of the repository is already used by {by}, which does not contain {release.mark}. No release was "
        "created; the model is published.",
        "Set another tag.",
    )
