from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from echoself_action.checkpoint.model_folder import ModelFolder, sha256
from echoself_action.errors import CheckpointError
from echoself_action.training.optim.schedule import cosine_schedule
from echoself_action.training.training_state import TrainingState, read_state, write_moments, write_state

STATE = TrainingState(
    sequences_seen=8,
    schedule=cosine_schedule(0, 10, 0, 0.1 + 0.2),
    weights_sha256="abc",
    moments_sha256=None,
    seed=1,
    sequences_per_step=4,
    dtype="float32",
    data_digest="def",
)


def test_training_state_round_trip_is_bit_exact(tmp_path: Path) -> None:
    moments = {"exp_avg.x": torch.randn(3, 3), "steps.x": torch.tensor(5.0)}
    write_moments(tmp_path, moments)
    write_state(tmp_path, STATE)
    state, stored = read_state(tmp_path, "abc")
    assert state == STATE
    assert stored.keys() == moments.keys()
    assert all(torch.equal(stored[name], tensor) for name, tensor in moments.items())


def test_checkpoint_contains_no_pickle(model_folder: ModelFolder) -> None:
    names = {file.suffix for file in model_folder.path.rglob("*") if file.is_file()}
    assert names == {".json", ".safetensors"}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


@pytest.mark.parametrize("name", ["state.json", "optimizer.safetensors"])
@pytest.mark.parametrize("damage", [Path.unlink, cut])
def test_damaged_training_state_is_a_checkpoint_error(
    model_folder: ModelFolder, name: str, damage: Callable[[Path], None]
) -> None:
    damage(model_folder.path / "training_state" / name)
    with pytest.raises(CheckpointError, match=r"training_state.* (can't be read|is damaged)"):
        read_state(model_folder.path, sha256(model_folder.path / "model.safetensors"))
