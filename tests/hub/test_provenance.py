"""provenance.json says what was published, and a pull holds the files to it."""

import json
from pathlib import Path

import pytest

from echoself_action.checkpoint.model_folder import ModelFolder, sha256
from echoself_action.errors import CheckpointError
from echoself_action.hub.endpoint import Hub
from echoself_action.hub.fetch import Fetched, fetch
from echoself_action.hub.provenance import Verify, provenance_of
from echoself_action.hub.publish import ensure_repo, model_files, publish_model, publish_state, state_files
from echoself_action.hub.repo import PROVENANCE_FILE, look_up

from ..conftest import contents

REPO = "someone/model"
JOB = {
    "GITHUB_REPOSITORY": "octo/train",
    "GITHUB_SHA": "c0ffee",
    "GITHUB_WORKFLOW_REF": "octo/train/.github/workflows/cycle.yml@refs/heads/main",
    "GITHUB_RUN_ID": "17",
    "GITHUB_ACTOR": "octocat",
}


def publish(hub: Hub, folder: ModelFolder, with_provenance: bool = True) -> None:
    remote = ensure_repo(hub, look_up(hub, REPO, "main"), private=False)
    files = model_files(folder, "# A model\n")
    if with_provenance:
        files[PROVENANCE_FILE] = provenance_of(files, {"mode": "deploy"})
    publish_state(hub, remote, state_files(folder), "State")
    publish_model(hub, remote, files, "A step")


def pull(hub: Hub, folder: Path, verify: Verify) -> tuple[Fetched, list[str]]:
    message: list[str] = []
    return fetch(hub, look_up(hub, REPO, "main"), folder, message.append, verify), message


def edit(hub: Hub, name: str, content: bytes) -> None:
    hub.api.upload_file(path_or_fileobj=content, path_in_repo=name, repo_id=REPO)


def test_provenance_names_the_run_and_every_file_but_no_person(
    model_folder: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in JOB.items():
        monkeypatch.setenv(name, value)
    files = model_files(model_folder, "# A model\n")
    content = provenance_of(files, {"mode": "deploy"})
    output = json.loads(content)
    assert output["run"]["run_url"] == "https://github.com/octo/train/actions/runs/17"
    assert output["run"]["commit"] == "c0ffee"
    assert set(output["files"]) == set(files) - {"README.md"}
    assert output["files"]["model.safetensors"]["sha256"] == sha256(model_folder.path / "model.safetensors")
    assert b"octocat" not in content
    assert provenance_of(files, {"mode": "deploy", "gate": "none"}) != content


def test_pulled_files_match_their_provenance(hub: Hub, model_folder: ModelFolder, tmp_path: Path) -> None:
    publish(hub, model_folder)
    edit(hub, "README.md", b"# My own words\n")  # the card is for people to go on with
    fetched, message = pull(hub, tmp_path / "auto", "auto")
    assert fetched.newest.has_training_state
    assert message == ["all files match provenance.json"]
    assert not pull(hub, tmp_path / "require", "require")[0].newest.has_training_state  # of that nothing is known


@pytest.mark.parametrize("name", ["generation_config.json", "tokenizer_config.json", "training_metadata.json"])
def test_a_model_with_a_file_changed_after_publishing_is_refused(
    hub: Hub, model_folder: ModelFolder, tmp_path: Path, name: str
) -> None:
    publish(hub, model_folder)
    edit(hub, name, (model_folder.path / name).read_bytes().replace(b"{", b"{ ", 1))
    for verify in ("auto", "require"):
        with pytest.raises(CheckpointError, match=f"was changed after it was published: {name}"):
            pull(hub, tmp_path / "out", verify)
        assert not contents(tmp_path / "out")
    assert pull(hub, tmp_path / "out", "off")[0].model


def test_a_repo_without_provenance_is_accepted_unless_it_is_required(
    hub: Hub, model_folder: ModelFolder, tmp_path: Path
) -> None:
    publish(hub, model_folder, with_provenance=False)
    assert pull(hub, tmp_path / "out", "auto")[1] == []
    with pytest.raises(CheckpointError, match=r"has no provenance\.json"):
        pull(hub, tmp_path / "other", "require")
    edit(hub, PROVENANCE_FILE, b'{"format": 1}')
    with pytest.raises(CheckpointError, match="is invalid"):
        pull(hub, tmp_path / "another", "auto")
