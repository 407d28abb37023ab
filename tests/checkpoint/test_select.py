import shutil
from pathlib import Path

import pytest

from echoself_action.checkpoint.model_folder import ModelFolder, read_model_folder
from echoself_action.checkpoint.select import best, broken, checkpoints, latest, line_of, prune, resumable


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


@pytest.fixture
def branches(model_folder: ModelFolder, tmp_path: Path) -> Path:
    """Two runs of 20 steps: lines up to 16 and 32, branches up to 20 and 36; the second branch's end is the best."""
    values = [(10, None, 3.5), (16, None, None), (18, 16, 3.1), (20, 16, 3.0), (30, None, 2.9), (32, None, None), (36, 32, 2.5)]
    for step, branched_from, val_loss in values:
        path = tmp_path / f"checkpoint-{step}"
        shutil.copytree(model_folder.path, path)
        assert model_folder.metadata
        end = None if branched_from is None else branched_from + 4
        facts = {"step": step, "val_loss": val_loss, "branched_from": branched_from, "branch_end": end}
        model_folder.metadata.model_copy(update=facts).write(path)
    return tmp_path


def test_training_goes_on_from_the_line_and_only_without_one_from_a_branch(branches: Path) -> None:
    assert steps(resumable(branches)) == [32, 30, 16, 10, 36, 20, 18]
    for step in (10, 16, 30, 32):
        shutil.rmtree(branches / f"checkpoint-{step}")
    assert steps(resumable(branches)) == [36, 20, 18]


@pytest.mark.parametrize(("left", "first"), [(2, 18), (1, 16), (3, 16), (20, 16), (None, 16)])
def test_a_branch_that_is_just_as_far_from_its_end_as_the_run_goes_is_finished(
    branches: Path, left: int | None, first: int
) -> None:
    for step in (20, 30, 32, 36):
        shutil.rmtree(branches / f"checkpoint-{step}")
    assert resumable(branches, left)[0].step == first


def test_a_branch_that_left_an_older_line_is_not_finished(branches: Path) -> None:
    assert resumable(branches, 2)[0].step == 32


def test_the_line_of_a_branch_is_the_checkpoint_of_its_run_that_it_left(branches: Path) -> None:
    def line(step: int) -> int:
        return line_of(read_model_folder(branches / f"checkpoint-{step}")).step

    assert [line(step) for step in (10, 16, 18, 20, 36)] == [10, 16, 16, 16, 32]
    other = read_model_folder(branches / "checkpoint-16")
    assert other.metadata
    other.metadata.model_copy(update={"run_id": "other"}).write(other.path)
    assert line(20) == 20
    shutil.rmtree(branches / "checkpoint-32")
    assert line(36) == 36


def test_the_best_may_be_on_any_branch(branches: Path) -> None:
    assert [best(branches).step, latest(branches).step] == [36, 36]  # type: ignore[union-attr]
    worse = read_model_folder(branches / "checkpoint-36")
    assert worse.metadata
    worse.metadata.model_copy(update={"val_loss": 3.2}).write(worse.path)
    assert best(branches).step == 30  # type: ignore[union-attr]


@pytest.mark.parametrize(("keep", "left"), [(1, [32, 36]), (2, [32, 36]), (3, [30, 32, 36]), (4, [20, 30, 32, 36])])
def test_pruning_keeps_what_training_goes_on_from(branches: Path, keep: int, left: list[int]) -> None:
    prune(branches, keep)
    assert steps(checkpoints(branches)) == left


def test_a_folder_with_a_final_name_that_is_no_model_is_told_and_is_no_checkpoint(branches: Path) -> None:
    (branches / "checkpoint-20/config.json").unlink()
    weights = branches / "checkpoint-30/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert steps(checkpoints(branches)) == [10, 16, 18, 32, 36]
    assert [error.message.split(": ")[0].rpartition("/")[2] for error in broken(branches)] == [
        "checkpoint-20 is not a complete model folder",
        "model.safetensors can't be read",
    ]
