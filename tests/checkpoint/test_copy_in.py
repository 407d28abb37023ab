from pathlib import Path

import pytest

from echoself_action.checkpoint.copy_in import copy_checkpoint
from echoself_action.checkpoint.model_folder import ModelFolder, read_model_folder
from echoself_action.errors import CheckpointError


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_only_known_files_are_copied(model_folder: ModelFolder, tmp_path: Path) -> None:
    wanted = contents(model_folder.path)
    for name in ("evil.py", "pytorch_model.bin", "training_state/evil.pkl"):
        (model_folder.path / name).write_bytes(b"x")
    copied = copy_checkpoint(read_model_folder(model_folder.path), tmp_path / "out")
    assert copied.path == tmp_path / "out/checkpoint-0"
    assert contents(copied.path) == wanted


def test_the_same_model_is_kept_and_another_of_the_same_step_is_set_aside(model_folder: ModelFolder, tmp_path: Path) -> None:
    copied = copy_checkpoint(model_folder, tmp_path)
    (copied.path / "README.md").write_text("a card")
    assert copy_checkpoint(model_folder, tmp_path) == copy_checkpoint(copied, tmp_path) == copied
    assert (copied.path / "README.md").exists()
    weights = bytearray((copied.path / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copied.path / "model.safetensors").write_bytes(weights)
    assert contents(copy_checkpoint(model_folder, tmp_path).path) == contents(model_folder.path)
    assert [path.name for path in tmp_path.glob("superseded-*/*")] == ["checkpoint-0"]


def test_a_damaged_model_is_not_copied(model_folder: ModelFolder, tmp_path: Path) -> None:
    weights = model_folder.path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(CheckpointError, match="is damaged"):
        copy_checkpoint(model_folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unwritable_output_dir_is_an_error(model_folder: ModelFolder, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(CheckpointError, match="could not be written"):
        copy_checkpoint(model_folder, tmp_path / "out")
