"""What a published model is called: a tag on the Hub, and where it is asked for a release in this repository."""

import os

from ..checkpoint.model_folder import ModelFolder
from ..config.inputs import Inputs
from ..github.releases_api import GitHubRepository, Release, make_release, repository_of_job
from ..hub.endpoint import Hub
from ..hub.tags import TIMESTAMP, set_tag, timestamp_tag
from ..report.descriptions import release_notes
from ..report.github_actions import mask
from ..report.log import note


def release_target(inputs: Inputs) -> GitHubRepository | None:
    """Before any work: where a release would be made, None where none is asked for. Raises InputError where none can be."""
    if not inputs.create_release or inputs.dry_run:
        return None
    mask(os.environ.get("GITHUB_TOKEN"))
    return repository_of_job(os.environ)


def name_published(inputs: Inputs, hub: Hub, repo_id: str, model: ModelFolder, commit: str, gate: str) -> dict[str, str]:
    """Tag the published commit and make the release, as they are asked for; returns the outputs of both.

    What is there already stays. `gate` is why the model was published. Raises HubError where a tag is on something else.
    """
    wanted = inputs.tag or (f"v{model.step}" if inputs.create_release else "")
    tag = timestamp_tag(hub, repo_id, commit) if wanted == TIMESTAMP else wanted
    if not tag:
        return {}
    set_tag(hub, repo_id, tag, commit)
    note(f"tag {tag} is on it")
    repository = release_target(inputs)
    if repository is None:
        return {"tag": tag}
    mark = f"{repo_id}/commit/{commit}"
    text = release_notes(hub.url(repo_id), tag, f"{hub.endpoint}/{mark}", model, gate)
    release = Release(tag, f"{repo_id} {tag}", text, mark)
    release_url = make_release(repository, release, f"{repo_id}, which is published at {commit}")
    note(f"release {tag}: {release_url}")
    return {"tag": tag, "release_url": release_url}
