import shutil
from pathlib import Path

import pytest

from echoself_action.checkpoint.find import best, checkpoints, latest, prune
from echoself_action.checkpoint.folder import ModelFolder


@pytest.fixture
def output_dir(model_folder: ModelFolder, tmp_path: Path) -> Path:
    """Five checkpoints, the best of them at step 200."""
    for step, val_loss in ((100, 3.0), (200, 2.0), (300, 2.5), (400, None), (1000, 2.7)):
        path = tmp_path / f"checkpoint-{step}"
        shutil.copytree(model_folder.path, path)
        assert model_folder.metadata
        model_folder.metadata.model_copy(update={"step": step, "val_loss": val_loss}).write(path)
    (tmp_path / "checkpoint-2000.txt").touch()
    (tmp_path / ".writing-checkpoint-1100-x").mkdir()
    return tmp_path


def steps(folders: list[ModelFolder]) -> list[int]:
    return [folder.step for folder in folders]


def test_checkpoints_come_by_step_and_not_by_name(output_dir: Path) -> None:
    assert steps(checkpoints(output_dir)) == [100, 200, 300, 400, 1000]


def test_latest_is_the_one_with_most_steps_and_best_the_one_with_lowest_loss(output_dir: Path) -> None:
    newest, lowest = latest(output_dir), best(output_dir)
    assert newest
    assert lowest
    assert (newest.step, lowest.step) == (1000, 200)


def test_losses_on_other_data_are_not_compared(output_dir: Path) -> None:
    newest = latest(output_dir)
    assert newest
    assert newest.metadata
    data = newest.metadata.data.model_copy(update={"digest": "other"})
    newest.metadata.model_copy(update={"data": data}).write(newest.path)
    lowest = best(output_dir)
    assert lowest
    assert lowest.step == 1000


def test_an_empty_place_has_neither(tmp_path: Path) -> None:
    assert latest(tmp_path / "nowhere") is None
    assert best(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    ("keep", "left"), [(1, [200, 1000]), (2, [200, 1000]), (3, [200, 400, 1000]), (9, [100, 200, 300, 400, 1000])]
)
def test_pruning_keeps_the_best_and_the_newest(output_dir: Path, keep: int, left: list[int]) -> None:
    prune(output_dir, keep)
    assert steps(checkpoints(output_dir)) == left
