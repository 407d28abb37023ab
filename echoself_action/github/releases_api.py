"""A release in the repository, on an annotated tag, by GitHub's REST API. The same one again changes nothing.

What was made here is known by a mark in its text, so that a run that was cut off in between can be finished by the next.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx2

from ..errors import HubError, InputError
from .api import PUBLIC_API, Access, asking

_RIGHT = "Give the job `permissions: contents: write`, which tags and releases need, and run it again."


@dataclass(frozen=True)
class GitHubRepository:
    """The repository of this job, and the commit that it runs on."""

    name: str
    commit: str
    access: Access


@dataclass(frozen=True)
class Release:
    """`mark` is in `text`, and tells this release from others of its tag."""

    tag: str
    title: str
    text: str
    mark: str


def repository_of_job(environment: Mapping[str, str]) -> GitHubRepository:
    """Raises InputError where there is no repository, or no token for it."""
    names = ("GITHUB_REPOSITORY", "GITHUB_SHA", "GITHUB_TOKEN")
    if missing := [name for name in names if not environment.get(name)]:
        raise InputError(
            f"create_release: there is no {', '.join(missing)}, so no release can be made. Nothing was done.",
            "In a workflow, give create_release: true under `with:` (the token is not there for a file that asks for it), and "
            "the job `permissions: contents: write`. Elsewhere, set these variables.",
        )
    repository, commit, token = (environment[name] for name in names)
    return GitHubRepository(repository, commit, Access(environment.get("GITHUB_API_URL") or PUBLIC_API, token, _RIGHT))


def make_release(repository: GitHubRepository, release: Release, about: str) -> str:
    """Make the tag and the release, as far as they are not there; returns the release's page.

    `about` is what it is of, for errors. Raises HubError where GitHub refuses, or the tag is taken by something else.
    """
    base = f"/repos/{repository.name}"
    with asking(repository.access, f"making the release {release.tag} in {repository.name}", about) as client:
        found = _found(client, base, release)
        if found is None:
            _tag(client, base, repository, release)
            body = {"tag_name": release.tag, "name": release.title, "body": release.text}
            # "latest" stays with the releases of the code, which people download by that name
            response = client.post(f"{base}/releases", json=body | {"make_latest": "false"})
            if response.status_code == httpx2.codes.UNPROCESSABLE_CONTENT:  # another job has made it in the meantime
                found = _found(client, base, release)
            if found is None:
                found = response.raise_for_status().json()
        return str(found["html_url"])


def _found(client: httpx2.Client, base: str, release: Release) -> Mapping[str, Any] | None:
    found = _get(client, f"{base}/releases/tags/{quote(release.tag)}")
    if found is not None and release.mark not in str(found["body"]):
        raise _taken(release, f"the release {found['html_url']}")
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
        there = _get(client, reference)  # another job has made it in the meantime
        if there is None:
            response.raise_for_status()
    assert there
    target = there["object"]
    tag = _get(client, f"{base}/git/tags/{target['sha']}") if target["type"] == "tag" else None
    if tag is None or release.mark not in str(tag["message"]):
        raise _taken(release, f"{target['type']} {target['sha']}")


def _get(client: httpx2.Client, path: str) -> Mapping[str, Any] | None:
    response = client.get(path)
    if response.status_code == httpx2.codes.NOT_FOUND:
        return None
    found: Mapping[str, Any] = response.raise_for_status().json()
    return found


def _taken(release: Release, by: str) -> HubError:
    return HubError(
        f"Tag {release.tag} of the repository is taken by {by}, which does not name {release.mark}. No release was made; the "
        "model is published.",
        "Give another tag.",
    )
