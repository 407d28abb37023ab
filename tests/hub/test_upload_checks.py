"""Nothing reaches the Hub that should not be there: what is asserted is what the Hub holds afterwards."""

import json
import os
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from echoself_action.checkpoint.model_folder import WEIGHTS_FILE, ModelFolder
from echoself_action.errors import CheckpointError
from echoself_action.hub import upload_checks
from echoself_action.hub.endpoint import Hub
from echoself_action.hub.publish import ensure_repo, model_files, publish_model, publish_state, state_files
from echoself_action.hub.repo import MODEL_FILES, list_repo, look_up

from .secret_kinds import SECRETS

REPO = "someone/model"
CARD = "---\nlicense: mit\n---\n# A model\n"


def publish(hub: Hub, folder: ModelFolder, card: str = CARD) -> None:
    remote = ensure_repo(hub, look_up(hub, REPO, "main"), private=False)
    publish_state(hub, remote, state_files(folder), "State")
    publish_model(hub, remote, model_files(folder, card), "A step")


def held(hub: Hub) -> set[str]:
    """The files of all branches; nothing but git's own where nothing was published."""
    if not hub.api.repo_exists(REPO):
        return set()
    branches = [ref.name for ref in hub.api.list_repo_refs(REPO).branches]
    return {name for branch in branches for name in list_repo(hub, REPO, branch).files} - {".gitattributes"}


def refused(hub: Hub, folder: ModelFolder, card: str = CARD) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        publish(hub, folder, card)
    assert held(hub) == set()
    return caught.value


@pytest.mark.parametrize("kind", SECRETS)
def test_a_planted_secret_never_reaches_the_hub(hub: Hub, model_folder: ModelFolder, kind: str) -> None:
    secret, folder = SECRETS[kind], model_folder.path
    for name in ("training_metadata.json", "generation_config.json", "tokenizer_config.json"):
        before = (folder / name).read_bytes()
        (folder / name).write_text(json.dumps(json.loads(before) | {"planted": secret}, indent=2))
        output = str(refused(hub, model_folder))
        assert name in output
        assert "line" in output
        assert secret not in output
        (folder / name).write_bytes(before)
    remote = ensure_repo(hub, look_up(hub, REPO, "main"), private=False)
    with pytest.raises(CheckpointError, match=r"README\.md, line 5"):
        publish_model(hub, remote, model_files(model_folder, f"{CARD}{secret}\n"), "A step")
    assert held(hub) == set()


@pytest.mark.parametrize("name", ["index.html", "page.js", "worker.mjs", "style.css"])
def test_a_secret_in_a_file_of_a_page_is_found(name: str) -> None:
    with pytest.raises(CheckpointError, match=f"{name}, line 2: GitHub Token"):
        upload_checks.refuse_secrets({name: f"<p>\n{SECRETS['github']}".encode()})


def test_a_secret_in_the_header_of_the_weights_is_found(hub: Hub, model_folder: ModelFolder) -> None:
    weights = model_folder.path / WEIGHTS_FILE
    save_file(load_file(weights), weights, {"format": "pt", "note": SECRETS["github"]})
    assert WEIGHTS_FILE in refused(hub, model_folder).message


def test_other_files_in_the_folder_are_not_uploaded(hub: Hub, model_folder: ModelFolder, tmp_path: Path) -> None:
    folder = model_folder.path
    (folder / ".env").write_text(f"HF_TOKEN={SECRETS['hugging face']}")
    (folder / ".git").mkdir()
    (folder / ".git/config").write_text(SECRETS["url with a password"])
    (folder / "provenance.json").write_text("{}")
    (folder / "notes.txt").symlink_to("/etc/passwd")
    (folder / "modeling_evil.py").write_text("print()")
    (folder / "training_state/other.json").write_text("{}")
    publish(hub, model_folder)
    states = {"training_state/state.json", "training_state/optimizer.safetensors"}
    assert held(hub) == {*MODEL_FILES, "README.md", *states}


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "training_state/state.json", "training_state"])
def test_a_link_out_of_the_folder_is_refused(hub: Hub, model_folder: ModelFolder, tmp_path: Path, name: str) -> None:
    outside, inside = tmp_path / "outside", model_folder.path / name
    inside.rename(outside)
    inside.symlink_to(outside)
    assert "outside of the folder" in refused(hub, model_folder).message


def test_a_link_to_a_file_inside_the_folder_is_uploaded(hub: Hub, model_folder: ModelFolder) -> None:
    inside = model_folder.path / "generation_config.json"
    inside.rename(model_folder.path / "elsewhere")
    inside.symlink_to("elsewhere")
    publish(hub, model_folder)
    assert "generation_config.json" in held(hub)


def test_a_file_that_is_not_regular_is_refused(hub: Hub, model_folder: ModelFolder) -> None:
    inside = model_folder.path / "generation_config.json"
    inside.unlink()
    os.mkfifo(inside)
    assert "is not a regular file" in refused(hub, model_folder).message
    inside.unlink()
    inside.symlink_to("nothing")
    assert "is not a regular file" in refused(hub, model_folder).message


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("generation_config.json", upload_checks.JSON_LIMIT),
        ("tokenizer.json", upload_checks.TOKENIZER_LIMIT),
        (WEIGHTS_FILE, 0),
    ],
)
def test_a_file_too_large_for_its_name_is_refused(hub: Hub, model_folder: ModelFolder, name: str, limit: int) -> None:
    with (model_folder.path / name).open("ab") as file:
        file.truncate((limit or upload_checks.size_limit(model_folder, name)) + 1)  # a hole: it takes no room here
    assert "the maximum for this file is" in refused(hub, model_folder).message


def test_the_size_limits_allow_every_preset(model_folder: ModelFolder) -> None:
    for name, content in state_files(model_folder).items():
        assert isinstance(content, Path)
        assert content.stat().st_size < upload_checks.size_limit(model_folder, name), name
