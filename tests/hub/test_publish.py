import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from echoself_action.checkpoint.model_folder import ModelFolder, read_model_folder
from echoself_action.errors import HubError
from echoself_action.hub.endpoint import Hub
from echoself_action.hub.publish import changes, ensure_repo, model_files, publish_model, publish_state, state_files
from echoself_action.hub.repo import STATE_BRANCH, list_repo, look_up
from echoself_action.hub.tags import set_tag

REPO = "someone/model"
CARD = "---\nlicense: mit\n---\n# A model\n"


def publish(hub: Hub, folder: ModelFolder, card: str = CARD) -> Any:
    remote = ensure_repo(hub, look_up(hub, REPO, "main"), private=False)
    return publish_model(hub, remote, model_files(folder, card), "A step")


def test_only_the_listed_files_of_the_folder_are_published(hub: Hub, model_folder: ModelFolder) -> None:
    (model_folder.path / ".env").write_text("SECRET=1")
    (model_folder.path / "notes.txt").write_text("mine")
    published = publish(hub, model_folder)
    assert published.deployed
    assert set(list_repo(hub, REPO, "main").files) == {
        ".gitattributes",
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "training_metadata.json",
    }


def test_a_publish_is_one_commit(hub: Hub, model_folder: ModelFolder) -> None:
    published = publish(hub, model_folder)
    titles = [commit.title for commit in hub.api.list_repo_commits(REPO)]
    assert titles[0] == "A step"
    assert len(titles) == 2
    assert hub.api.list_repo_commits(REPO)[0].commit_id == published.commit


def test_transformers_loads_a_published_model(hub: Hub, model_folder: ModelFolder, tmp_path: Path) -> None:
    publish(hub, model_folder)
    folder = hub.api.snapshot_download(REPO, local_dir=tmp_path / "snapshot")
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("text", return_tensors="pt").input_ids
    assert ids.tolist() == [list(b"text")]
    assert model.generate(ids, max_new_tokens=3, do_sample=False).shape == (1, 7)


def test_an_unchanged_model_makes_no_commit(hub: Hub, model_folder: ModelFolder) -> None:
    first, second = publish(hub, model_folder), publish(hub, model_folder)
    assert (second.deployed, second.commit, second.changes) == (False, first.commit, ())
    assert len(hub.api.list_repo_commits(REPO)) == 2


def test_a_card_that_the_hub_does_not_accept_is_an_error_of_the_hub(hub: Hub, model_folder: ModelFolder) -> None:
    with pytest.raises(HubError, match=r'does not accept its card: "license" must be .* Nothing was published'):
        publish(hub, model_folder, CARD.replace("mit", "my-own"))
    assert "model.safetensors" not in list_repo(hub, REPO, "main").files


def test_only_changed_files_are_uploaded(hub: Hub, model_folder: ModelFolder) -> None:
    publish(hub, model_folder)
    again = publish(hub, model_folder, CARD + "More.\n")
    assert [change.path for change in again.changes] == ["README.md"]


def test_a_publish_on_top_of_an_older_commit_is_refused_and_changes_nothing(hub: Hub, model_folder: ModelFolder) -> None:
    publish(hub, model_folder)
    remote = look_up(hub, REPO, "main")
    winner = publish(hub, model_folder, CARD + "First.\n")
    with pytest.raises(HubError, match="412") as caught:
        publish_model(hub, remote, model_files(model_folder, CARD + "Second.\n"), "Too late")
    assert "which was not overwritten" in caught.value.hint
    assert list_repo(hub, REPO, "main").commit == winner.commit


def test_two_first_publishes_do_not_mix(hub: Hub, model_folder: ModelFolder) -> None:
    nothing = look_up(hub, REPO, "main")
    publish(hub, model_folder)
    with pytest.raises(HubError, match="has a new commit"):
        ensure_repo(hub, nothing, private=False)


def test_the_training_state_has_its_own_branch(hub: Hub, model_folder: ModelFolder) -> None:
    publish(hub, model_folder)
    remote = look_up(hub, REPO, "main")
    assert publish_state(hub, remote, state_files(model_folder), "State").deployed
    files = list_repo(hub, REPO, STATE_BRANCH).files
    assert "training_state/state.json" in files
    assert "training_state/optimizer.safetensors" in files
    assert not [name for name in list_repo(hub, REPO, "main").files if name.startswith("training_state")]
    with pytest.raises(HubError, match="has a new commit"):
        publish_state(hub, remote, state_files(model_folder), "From where there was none yet")
    assert not publish_state(hub, look_up(hub, REPO, "main"), state_files(model_folder), "State").deployed


def test_a_new_model_repo_is_private_with_the_input_private(hub: Hub, model_folder: ModelFolder) -> None:
    ensure_repo(hub, look_up(hub, REPO, "main"), private=True)
    assert hub.api.model_info(REPO).private


def test_another_branch_can_be_published_to(hub: Hub, model_folder: ModelFolder) -> None:
    remote = ensure_repo(hub, look_up(hub, REPO, "trial"), private=False)
    publish_model(hub, remote, model_files(model_folder, CARD), "On a branch")
    assert list_repo(hub, REPO, "trial").has_model
    assert not list_repo(hub, REPO, "main").has_model


def test_a_tag_is_set_once_and_does_not_move(hub: Hub, model_folder: ModelFolder) -> None:
    first = publish(hub, model_folder)
    set_tag(hub, REPO, "v1", first.commit)
    set_tag(hub, REPO, "v1", first.commit)
    second = publish(hub, model_folder, CARD + "More.\n")
    with pytest.raises(HubError, match=r"Tag v1 .* exists on commit"):
        set_tag(hub, REPO, "v1", second.commit)
    assert list_repo(hub, REPO, "v1").commit == first.commit


def test_changes_distinguish_new_from_changed_files_with_their_sizes(
    hub: Hub, model_folder: ModelFolder, tmp_path: Path
) -> None:
    publish(hub, model_folder)
    shutil.copytree(model_folder.path, tmp_path / "copy")
    copy = read_model_folder(tmp_path / "copy")
    (copy.path / "generation_config.json").write_text("{}")
    found = changes(model_files(copy, CARD) | {"new.txt": b"abc"}, list_repo(hub, REPO, "main"))
    assert [(change.path, change.size, change.is_new) for change in found] == [
        ("generation_config.json", 2, False),
        ("new.txt", 3, True),
    ]
