"""Name a published model: a tag on the Hub, and a release in this repository."""

import os
from dataclasses import replace

from ..config.mode_inputs import DeployInputs
from ..github.releases_api import GitHubRepository, Release, make_release, repository_of_job
from ..hub.tags import TIMESTAMP, set_tag, timestamp_tag
from ..report.descriptions import release_notes
from ..report.github_actions import mask
from ..report.log import note
from .publication import Publication


def release_target(inputs: DeployInputs) -> GitHubRepository | None:
    """The repository to create a release in; None if there is nothing to release. Raises InputError if it can't be created."""
    if not inputs.create_release or inputs.dry_run:
        return None
    mask(os.environ.get("GITHUB_TOKEN"))
    return repository_of_job(os.environ)


def tag_and_release(publication: Publication) -> Publication:
    """Tag the published commit and create the release, as the inputs request. Existing ones are kept.

    Raises HubError if the tag is already on another commit.
    """
    inputs, hub, repo_id, published = publication.inputs, publication.hub, publication.remote.repo_id, publication.published
    tag = inputs.tag or (f"v{publication.model.step}" if inputs.create_release else "")
    if not tag or published is None:
        return publication
    if tag == TIMESTAMP:
        tag = timestamp_tag(hub, repo_id, published.commit)
    set_tag(hub, repo_id, tag, published.commit)
    note(f"tagged {tag}")
    repository = release_target(inputs)
    if repository is None:
        return replace(publication, tag=tag)
    commit = f"{repo_id}/commit/{published.commit}"
    text = release_notes(
        publication.repo_url, tag, f"{hub.endpoint}/{commit}", publication.model, publication.verdict.full_reason
    )
    release = Release(tag, f"{repo_id} {tag}", text, commit)
    release_url = make_release(repository, release, f"{repo_id}, which is published at {published.commit}")
    note(f"release {tag}: {release_url}")
    return replace(publication, tag=tag, release_url=release_url)
