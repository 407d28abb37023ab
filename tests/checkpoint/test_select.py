import shutil
from pathlib import Path

import pytest

from echoself_action.checkpoint.model_folder import ModelFolder, read_model_folder
from echoself_action.checkpoint.select import best, broken, checkpoints, latest, prune, resumable, stable_checkpoint_of


@pytest.fixture
def output_dir(model_folder: ModelFolder, tmp_path: Path) -> Path:
    """Five checkpoints, the best at step 200."""
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


def test_checkpoints_are_sorted_by_step_and_not_by_name(output_dir: Path) -> None:
    assert steps(checkpoints(output_dir)) == [100, 200, 300, 400, 1000]


def test_latest_has_the_most_steps_and_best_the_lowest_loss(output_dir: Path) -> None:
    newest, lowest = latest(output_dir), best(output_dir)
    assert newest
    assert lowest
    assert (newest.step, lowest.step) == (1000, 200)


def test_losses_on_other_data_are_not_compared(output_dir: Path) -> None:
    newest = latest(output_dir)
    assert newest
    assert newest.metadata
    data = newest.metadata.data.model_copy(update={"digest": "other", "val_digest": "other"})
    newest.metadata.model_copy(update={"data": data}).write(newest.path)
    lowest = best(output_dir)
    assert lowest
    assert lowest.step == 1000


@pytest.mark.parametrize(
    ("val_digest", "eval_tokens", "expected"), [("same", 64, 200), ("other", 64, 1000), ("same", 32, 1000), (None, 64, 1000)]
)
def test_losses_on_the_same_held_out_text_are_compared_if_the_training_text_grows(
    output_dir: Path, val_digest: str | None, eval_tokens: int, expected: int
) -> None:
    """The latest checkpoint is of a grown corpus; `val_digest` None is an older checkpoint, which has none."""
    for folder in checkpoints(output_dir):
        facts = folder.metadata
        assert facts
        assert facts.data
        newest = folder.step == 1000
        digests = {"digest": "grown", "val_digest": "same"} if newest else {"val_digest": val_digest}
        settings = facts.settings | {"eval_tokens": 64 if newest else eval_tokens}
        facts.model_copy(update={"data": facts.data.model_copy(update=digests), "settings": settings}).write(folder.path)
    lowest = best(output_dir)
    assert lowest
    assert lowest.step == expected


def test_a_missing_output_dir_has_neither(tmp_path: Path) -> None:
    assert latest(tmp_path / "nowhere") is None
    assert best(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    ("keep", "left"), [(1, [200, 1000]), (2, [200, 1000]), (3, [200, 400, 1000]), (9, [100, 200, 300, 400, 1000])]
)
def test_pruning_keeps_the_best_and_the_latest(output_dir: Path, keep: int, left: list[int]) -> None:
    prune(output_dir, keep)
    assert steps(checkpoints(output_dir)) == left


@pytest.fixture
def phases(model_folder: ModelFolder, tmp_path: Path) -> Path:
    """Two runs: stable phases until steps 16 and 32, decay phases until 20 and 36. Step 36 is the best."""
    values = [(10, None, 3.5), (16, None, None), (18, 16, 3.1), (20, 16, 3.0), (30, None, 2.9), (32, None, None), (36, 32, 2.5)]
    for step, branched_from, val_loss in values:
        path = tmp_path / f"checkpoint-{step}"
        shutil.copytree(model_folder.path, path)
        assert model_folder.metadata
        end = None if branched_from is None else branched_from + 4
        facts = {"step": step, "val_loss": val_loss, "branched_from": branched_from, "branch_end": end}
        model_folder.metadata.model_copy(update=facts).write(path)
    return tmp_path


def test_training_resumes_from_the_stable_phase_and_else_from_a_decay_phase(phases: Path) -> None:
    assert steps(resumable(phases)) == [32, 30, 16, 10, 36, 20, 18]
    for step in (10, 16, 30, 32):
        shutil.rmtree(phases / f"checkpoint-{step}")
    assert steps(resumable(phases)) == [36, 20, 18]


@pytest.mark.parametrize(("left", "first"), [(2, 18), (1, 16), (3, 16), (20, 16), (None, 16)])
def test_a_decay_phase_is_completed_if_the_run_has_exactly_its_missing_steps(
    phases: Path, left: int | None, first: int
) -> None:
    for step in (20, 30, 32, 36):
        shutil.rmtree(phases / f"checkpoint-{step}")
    assert resumable(phases, left)[0].step == first


def test_a_decay_phase_of_an_older_stable_checkpoint_is_not_completed(phases: Path) -> None:
    assert resumable(phases, 2)[0].step == 32


def test_stable_checkpoint_of_a_decay_phase_is_where_it_started_in_the_same_run(phases: Path) -> None:
    def stable_step(step: int) -> int:
        return stable_checkpoint_of(read_model_folder(phases / f"checkpoint-{step}")).step

    assert [stable_step(step) for step in (10, 16, 18, 20, 36)] == [10, 16, 16, 16, 32]
    other = read_model_folder(phases / "checkpoint-16")
    assert other.metadata
    other.metadata.model_copy(update={"run_id": "other"}).write(other.path)
    assert stable_step(20) == 20
    shutil.rmtree(phases / "checkpoint-32")
    assert stable_step(36) == 36


def test_the_best_may_be_in_any_phase(phases: Path) -> None:
    assert [best(phases).step, latest(phases).step] == [36, 36]  # type: ignore[union-attr]
    worse = read_model_folder(phases / "checkpoint-36")
    assert worse.metadata
    worse.metadata.model_copy(update={"val_loss": 3.2}).write(worse.path)
    assert best(phases).step == 30  # type: ignore[union-attr]


@pytest.mark.parametrize(("keep", "left"), [(1, [32, 36]), (2, [32, 36]), (3, [30, 32, 36]), (4, [20, 30, 32, 36])])
def test_pruning_keeps_the_checkpoint_to_resume_from(phases: Path, keep: int, left: list[int]) -> None:
    prune(phases, keep)
    assert steps(checkpoints(phases)) == left


def test_a_broken_checkpoint_is_reported_and_not_listed(phases: Path) -> None:
    (phases / "checkpoint-20/config.json").unlink()
    weights = phases / "checkpoint-30/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert steps(checkpoints(phases)) == [10, 16, 18, 32, 36]
    assert [error.message.split(": ")[0].rpartition("/")[2] for error in broken(phases)] == [
        "checkpoint-20 is not a complete model folder",
        "model.safetensors can't be read",
    ]
