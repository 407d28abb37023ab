import json
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete
from safetensors.torch import load_file, save_file

from echoself_action.checkpoint.model_folder import ModelFolder, read_model_folder, sha256
from echoself_action.errors import CheckpointError, HubError
from echoself_action.hub.endpoint import Hub
from echoself_action.hub.fetch import Fetched, fetch
from echoself_action.hub.publish import ensure_repo, model_files, publish_model, publish_state, state_files
from echoself_action.hub.repo import look_up

from ..conftest import contents

REPO = "someone/model"


def publish(hub: Hub, folder: ModelFolder, state: ModelFolder | None = None) -> str:
    remote = ensure_repo(hub, look_up(hub, REPO, "main"), private=False)
    if state:
        publish_state(hub, remote, state_files(state), "State")
    return publish_model(hub, remote, model_files(folder, "# A model\n"), "Model").commit


def pull(hub: Hub, output_dir: Path, revision: str = "main") -> Fetched:
    return fetch(hub, look_up(hub, REPO, revision), output_dir)


def later(folder: ModelFolder, path: Path, step: int, run_id: str | None = None) -> ModelFolder:
    """What the same run, or another one, would have saved later."""
    path.mkdir()
    for file in folder.path.rglob("*"):
        if file.is_file():
            (path / file.relative_to(folder.path)).parent.mkdir(exist_ok=True)
            (path / file.relative_to(folder.path)).write_bytes(file.read_bytes())
    weights = load_file(path / "model.safetensors")
    weights["transformer.ln_f.weight"] += step + 1
    save_file(weights, path / "model.safetensors", {"format": "pt"})
    assert folder.metadata
    changed = {"step": step, "weights_sha256": sha256(path / "model.safetensors")} | ({"run_id": run_id} if run_id else {})
    folder.metadata.model_copy(update=changed).write(path)
    state = json.loads((path / "training_state/state.json").read_text())
    (path / "training_state/state.json").write_text(json.dumps(state | {"weights_sha256": changed["weights_sha256"]}))
    return read_model_folder(path)


def test_fetched_files_equal_the_published_files_byte_for_byte(hub: Hub, model_folder: ModelFolder, tmp_path: Path) -> None:
    commit = publish(hub, model_folder, model_folder)
    fetched = pull(hub, tmp_path / "out")
    assert fetched.commit == commit
    assert fetched.model.path == tmp_path / "out/checkpoint-0"
    files = {file.relative_to(fetched.model.path) for file in fetched.model.path.rglob("*") if file.is_file()}
    ours = {file.relative_to(model_folder.path) for file in model_folder.path.rglob("*") if file.is_file()}
    published = ours - {Path("held_out.safetensors")}  # that text stays here
    assert files == published | {Path("README.md")}
    for name in published:
        assert (fetched.model.path / name).read_bytes() == (model_folder.path / name).read_bytes(), name
    assert contents(tmp_path / "out") == ["checkpoint-0"]


def test_without_a_published_training_state_only_the_model_is_fetched(
    hub: Hub, model_folder: ModelFolder, tmp_path: Path
) -> None:
    publish(hub, model_folder)
    fetched = pull(hub, tmp_path / "out")
    assert fetched.newest == fetched.model
    assert not fetched.model.has_training_state


def test_the_checkpoint_to_resume_from_is_fetched_if_it_is_later_than_the_best_model(
    hub: Hub, model_folder: ModelFolder, tmp_path: Path
) -> None:
    publish(hub, model_folder, later(model_folder, tmp_path / "later", 50))
    fetched = pull(hub, tmp_path / "out")
    assert (fetched.model.step, fetched.newest.step) == (0, 50)
    assert fetched.newest.has_training_state


def test_the_training_state_of_another_run_is_not_fetched(hub: Hub, model_folder: ModelFolder, tmp_path: Path) -> None:
    publish(hub, model_folder, later(model_folder, tmp_path / "later", 50, run_id="other"))
    fetched = pull(hub, tmp_path / "out")
    assert fetched.newest == fetched.model
    assert not fetched.model.has_training_state


def test_the_training_state_of_an_interrupted_publish_is_fetched(hub: Hub, model_folder: ModelFolder, tmp_path: Path) -> None:
    remote = ensure_repo(hub, look_up(hub, REPO, "main"), private=False)
    publish_state(hub, remote, state_files(model_folder), "State")
    looked_up = look_up(hub, REPO, "main")
    assert looked_up.holds_a_model
    assert fetch(hub, looked_up, tmp_path / "out").newest.has_training_state


def test_a_tag_and_a_commit_select_their_revision(hub: Hub, model_folder: ModelFolder, tmp_path: Path) -> None:
    first = publish(hub, model_folder)
    hub.api.create_tag(REPO, tag="v1", revision=first)
    publish(hub, later(model_folder, tmp_path / "later", 50))
    assert pull(hub, tmp_path / "a").model.step == 50
    for revision in ("v1", first):
        fetched = pull(hub, tmp_path / "b", revision)
        assert (fetched.model.step, fetched.commit) == (0, first)


def test_pulling_again_changes_nothing_and_a_different_model_of_the_same_step_is_moved_aside(
    hub: Hub, model_folder: ModelFolder, tmp_path: Path
) -> None:
    publish(hub, model_folder)
    first = pull(hub, tmp_path / "out").model
    before = first.path.stat().st_ino
    assert pull(hub, tmp_path / "out").model.path.stat().st_ino == before
    publish(hub, later(model_folder, tmp_path / "later", 0))
    second = pull(hub, tmp_path / "out").model
    assert sha256(second.path / "model.safetensors") != sha256(model_folder.path / "model.safetensors")
    [aside] = (tmp_path / "out").glob("superseded-*/checkpoint-0")
    assert sha256(aside / "model.safetensors") == sha256(model_folder.path / "model.safetensors")


def test_a_missing_repo_or_revision_is_an_error_of_the_hub(hub: Hub, model_folder: ModelFolder, tmp_path: Path) -> None:
    for revision in ("main", "none"):
        with pytest.raises(HubError, match=f"does not exist at revision {revision}"):
            pull(hub, tmp_path / "out", revision)
        if revision == "main":
            publish(hub, model_folder)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
def test_a_repo_with_an_incomplete_model_is_refused(hub: Hub, model_folder: ModelFolder, tmp_path: Path, name: str) -> None:
    publish(hub, model_folder)
    hub.api.create_commit(REPO, [CommitOperationDelete(name)], commit_message="Lose a file")
    with pytest.raises(CheckpointError, match=f"is not a complete model folder: {name} missing"):
        pull(hub, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_weights_that_do_not_fit_their_config_are_refused(hub: Hub, model_folder: ModelFolder, tmp_path: Path) -> None:
    publish(hub, model_folder)
    config = json.loads((model_folder.path / "config.json").read_text()) | {"n_layer": 3}
    changed = CommitOperationAdd("config.json", json.dumps(config).encode())
    hub.api.create_commit(REPO, [changed], commit_message="Contradict")
    with pytest.raises(CheckpointError, match=r"transformer\.h\.2"):
        pull(hub, tmp_path / "out")
    assert not contents(tmp_path / "out")


def test_weights_that_do_not_match_the_metadata_are_refused(hub: Hub, model_folder: ModelFolder, tmp_path: Path) -> None:
    publish(hub, model_folder)
    other = later(model_folder, tmp_path / "later", 50).path / "model.safetensors"
    hub.api.create_commit(REPO, [CommitOperationAdd("model.safetensors", other)], commit_message="Swap the weights")
    with pytest.raises(CheckpointError, match="is damaged"):
        pull(hub, tmp_path / "out")
    assert not contents(tmp_path / "out")


def on_branch(folder: ModelFolder, path: Path, step: int, branched_from: int) -> ModelFolder:
    """The end of a branch that left the line of the run at `branched_from`."""
    end = later(folder, path, step)
    assert end.metadata
    end.metadata.model_copy(update={"branched_from": branched_from, "branch_end": step}).write(path)
    return read_model_folder(path)


def test_the_stable_checkpoint_is_fetched_with_the_model_of_its_decay_phase(
    hub: Hub, model_folder: ModelFolder, tmp_path: Path
) -> None:
    line = later(model_folder, tmp_path / "line", 16)
    publish(hub, on_branch(line, tmp_path / "branch", 20, 16), line)
    fetched = pull(hub, tmp_path / "out")
    assert (fetched.model.step, fetched.newest.step) == (20, 16)
    assert not fetched.model.has_training_state
    assert fetched.newest.has_training_state
    assert contents(tmp_path / "out") == ["checkpoint-16", "checkpoint-20-decayed"]


def test_a_stable_checkpoint_later_than_the_best_decay_phase_is_fetched(
    hub: Hub, model_folder: ModelFolder, tmp_path: Path
) -> None:
    line = later(model_folder, tmp_path / "line", 32)
    publish(hub, on_branch(model_folder, tmp_path / "branch", 20, 16), line)
    assert pull(hub, tmp_path / "out").newest.step == 32


@pytest.mark.parametrize(("step", "run_id"), [(None, None), (10, None), (16, "other")], ids=["none", "behind", "another run's"])
def test_a_decay_phase_without_its_stable_checkpoint_is_fetched_alone(
    hub: Hub, model_folder: ModelFolder, tmp_path: Path, step: int | None, run_id: str | None
) -> None:
    kept = None if step is None else later(model_folder, tmp_path / "line", step, run_id)
    publish(hub, on_branch(model_folder, tmp_path / "branch", 20, 16), kept)
    fetched = pull(hub, tmp_path / "out")
    assert fetched.newest == fetched.model
    assert (fetched.model.step, fetched.model.has_training_state) == (20, False)
