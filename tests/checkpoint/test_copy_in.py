from pathlib import Path

import pytest

from echoself_action.checkpoint.copy_in import take_in
from echoself_action.checkpoint.model_folder import ModelFolder, read_model_folder
from echoself_action.errors import CheckpointError


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_its_own_files_are_copied_and_no_others(model_folder: ModelFolder, tmp_path: Path) -> None:
    wanted = contents(model_folder.path)
    for name in ("evil.py", "pytorch_model.bin", "training_state/evil.pkl"):
        (model_folder.path / name).write_bytes(b"x")
    taken = take_in(read_model_folder(model_folder.path), tmp_path / "out")
    assert taken.path == tmp_path / "out/checkpoint-0"
    assert contents(taken.path) == wanted


def test_what_is_there_already_stays_and_another_of_the_same_step_is_set_aside(
    model_folder: ModelFolder, tmp_path: Path
) -> None:
    taken = take_in(model_folder, tmp_path)
    (taken.path / "README.md").write_text("a card")
    assert take_in(model_folder, tmp_path) == take_in(taken, tmp_path) == taken
    assert (taken.path / "README.md").exists()
    weights = bytearray((taken.path / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (taken.path / "model.safetensors").write_bytes(weights)
    assert contents(take_in(model_folder, tmp_path).path) == contents(model_folder.path)
    assert [path.name for path in tmp_path.glob("superseded-*/*")] == ["checkpoint-0"]


def test_a_damaged_one_is_not_taken_in(model_folder: ModelFolder, tmp_path: Path) -> None:
    weights = model_folder.path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(CheckpointError, match="is damaged"):
        take_in(model_folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_where_it_cant_be_written_it_says_so(model_folder: ModelFolder, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(CheckpointError, match="could not be written"):
        take_in(model_folder, tmp_path / "out")
