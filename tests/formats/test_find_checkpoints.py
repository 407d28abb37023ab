"""Checkpoints are found among decoys, and ranked by what they record, regardless of their names."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from echoself_action.checkpoint.model_folder import ModelFolder
from echoself_action.formats import find_checkpoints as module
from echoself_action.formats.find_checkpoints import FoundCheckpoint, find_checkpoints, ranked

from .foreign_files import nanogpt_checkpoint, save

WEIGHTS = {"model_state_dict": {"w": torch.zeros(2)}}
EXPORT = {**WEIGHTS, "model_config": {}, "exported_at": "now"}


class Bomb:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("pwned",)


def nanogpt(path: Path, loss: float, step: int = 7) -> Path:
    return save(nanogpt_checkpoint() | {"best_val_loss": torch.tensor(loss), "iter_num": step}, path)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path()


def found(root: Path) -> list[str]:
    return [str(candidate.path) for candidate in find_checkpoints(root).candidates if not candidate.refused]


def reasons(root: Path) -> dict[str, str]:
    return {str(candidate.path): candidate.refused for candidate in find_checkpoints(root).candidates if candidate.refused}


def test_every_folder_that_echoself_uses_is_searched(here: Path) -> None:
    places = [
        ".training-progress/checkpoints/latest_checkpoint.pt",
        "artifact/deep/down/best_model.pt",
        "out/best_model_export.pt",
        "out/cache/checkpoints/ckpt_20261124_0_a_b.pt",
        "nanoGPT/out/ckpt.pt",
    ]
    for number, place in enumerate(places):
        nanogpt(Path(place), 1 + number)
    nanogpt(Path("elsewhere/model.pt"), 0.5)
    assert found(here) == places


def test_the_lowest_recorded_loss_wins_regardless_of_names(here: Path) -> None:
    nanogpt(Path("a/best_model.pt"), 3.0)
    nanogpt(Path("b/latest_checkpoint.pt"), 4.0, step=900)
    nanogpt(Path("z/ckpt.pt"), 2.0, step=1)
    assert found(here) == ["z/ckpt.pt", "a/best_model.pt", "b/latest_checkpoint.pt"]


def test_ties_are_broken_by_step_and_then_by_optimizer_state(here: Path) -> None:
    nanogpt(Path("a/ckpt.pt"), 2.0, step=5)
    nanogpt(Path("c/ckpt.pt"), 2.0, step=6)
    save(nanogpt_checkpoint() | {"best_val_loss": 2.0, "iter_num": 6, "optimizer": {}}, Path("b/ckpt.pt"))
    assert found(here) == ["c/ckpt.pt", "b/ckpt.pt", "a/ckpt.pt"]


@pytest.mark.parametrize(
    "unknown", [{}, {"val_loss": 0.0}, {"val_loss": float("inf")}, {"val_loss": "N/A"}, {"val_loss": -9.0}]
)
def test_files_without_a_loss_are_last_and_ordered_by_step(here: Path, unknown: dict[str, Any]) -> None:
    save({**EXPORT, "metadata": {"iteration": 10_000, **unknown}}, Path("a/best_model_export.pt"))
    save({**EXPORT, "metadata": {"iteration": 20_000, "train_loss": 0.1, **unknown}}, Path("b/best_model_export.pt"))
    nanogpt(Path("c/ckpt.pt"), 9.0)
    assert found(here) == ["c/ckpt.pt", "b/best_model_export.pt", "a/best_model_export.pt"]
    assert [candidate.val_loss for candidate in find_checkpoints(here).candidates] == [9.0, None, None]


@pytest.mark.parametrize(
    ("content", "loss"),
    [
        ({**EXPORT, "metadata": {"val_loss": 3.0}}, 3.0),
        ({**EXPORT, "metrics": {"best_val_loss": 2.0}}, 2.0),
        ({**EXPORT, "val_loss": torch.tensor(4.0), "best_val_loss": 1.0}, 4.0),
        ({**EXPORT, "loss": 1.0}, None),
    ],
)
def test_the_held_out_loss_is_read_from_every_place_that_records_it(
    here: Path, content: dict[str, Any], loss: float | None
) -> None:
    save(content, Path("best_model.pt"))
    assert [candidate.val_loss for candidate in find_checkpoints(here).candidates] == [loss]


def test_the_index_of_nanechos_cache_completes_its_files(here: Path) -> None:
    for name in ("one", "two", "three"):
        save({**EXPORT, "checkpoint_id": name}, Path(f"out/cache/checkpoints/{name}.pt"))
    index = {"one": {"val_loss": 3.0, "iteration": 5}, "two": {"metrics": {"val_loss": 2.0}}, "three": "nonsense"}
    Path("out/cache/metadata.json").write_text(json.dumps(index))
    assert [Path(path).stem for path in found(here)] == ["two", "one", "three"]
    assert [candidate.step for candidate in find_checkpoints(here).candidates] == [None, 5, None]
    Path("out/cache/metadata.json").write_text("[" * 100_000)
    assert len(found(here)) == 3


def test_unreadable_files_are_listed_with_the_reason_without_running_code(here: Path) -> None:
    good = nanogpt(Path("z/ckpt.pt"), 9.0)
    save({**nanogpt_checkpoint(), "best_val_loss": 0.1, "more": Bomb()}, Path("a/best_model.pt"))
    Path("b").mkdir()
    Path("b/best_model.pt").write_bytes(good.read_bytes()[:20_000])
    Path("c").mkdir()
    Path("c/latest_checkpoint.pt").write_text("<html>404</html>")
    save({"what": "is this"}, Path("d/ckpt.pt"))
    Path("e/ckpt.pt").mkdir(parents=True)
    assert found(here) == ["z/ckpt.pt"]
    assert {path: reason.split(":")[0] for path, reason in reasons(here).items()} == {
        "a/best_model.pt": "a/best_model.pt uses posix.mkdir, which a checkpoint of tensors and numbers does not need. "
        "It was not used, and no code in it was run.",
        "b/best_model.pt": "b/best_model.pt is damaged",
        "c/latest_checkpoint.pt": "c/latest_checkpoint.pt is not a PyTorch checkpoint",
        "d/ckpt.pt": "d/ckpt.pt is not a recognised checkpoint format. Its top-level keys are",
    }
    assert not Path("pwned").exists()


def test_links_are_followed_only_inside_the_folder_and_count_once(here: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = nanogpt(tmp_path_factory.mktemp("outside") / "ckpt.pt", 0.5)
    inside = nanogpt(Path("out/cache/checkpoints/a.pt"), 2.0)
    Path("best_model.pt").symlink_to(inside)
    Path("latest_checkpoint.pt").symlink_to(outside)
    Path("folder").symlink_to(outside.parent)
    Path("loop").symlink_to(Path().resolve())
    Path("ckpt.pt").symlink_to("nowhere")
    assert found(here) == ["best_model.pt"]
    assert reasons(here) == {"latest_checkpoint.pt": "latest_checkpoint.pt is a link that leads out of .. It was not followed."}


@pytest.mark.parametrize(
    "place",
    [".git", "node_modules", "venv/lib", "a/site-packages", ".hidden", "out/superseded-20260101-000000", "out/.writing-x"],
)
def test_some_folders_are_not_searched(here: Path, place: str) -> None:
    nanogpt(Path(place, "ckpt.pt"), 2.0)
    if place.startswith("venv"):
        Path("venv/pyvenv.cfg").touch()
    assert found(here) == []


def test_the_search_of_a_huge_tree_ends_with_a_reason(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        nanogpt(Path(f"{number}/ckpt.pt"), 2.0)
    nanogpt(Path(*"abcdefghijkl", "ckpt.pt"), 1.0)  # too deep
    assert len(found(here)) == 5
    monkeypatch.setattr(module, "MOST_CHECKPOINTS", 3)
    assert (len(found(here)), find_checkpoints(here).cut_short) == (
        3,
        ". has more than 3 checkpoints: the rest was not searched",
    )
    monkeypatch.setattr(module, "MOST_FOLDERS", 2)
    assert find_checkpoints(here).cut_short == ". has more than 2 folders: the rest was not searched"


def test_model_folders_are_found_except_those_in_skip(model_folder: ModelFolder, tmp_path: Path) -> None:
    assert model_folder.metadata
    for name, loss in (("out/checkpoint-1", 1.0), ("artifact/checkpoint-2", 2.0)):
        shutil.copytree(model_folder.path, tmp_path / name)
        model_folder.metadata.model_copy(update={"val_loss": loss, "step": 3}).write(tmp_path / name)
    shutil.rmtree(model_folder.path)
    (candidate,) = find_checkpoints(tmp_path, skip=tmp_path / "out").candidates
    assert str(candidate) == f"{tmp_path / 'artifact/checkpoint-2'}: model folder; step 3; held-out loss 2.0000"
    (tmp_path / "artifact/checkpoint-2/tokenizer.json").unlink()
    (candidate,) = find_checkpoints(tmp_path, skip=tmp_path / "out").candidates
    assert "is not a complete model folder: tokenizer.json missing" in str(candidate)


def test_a_path_with_control_characters_is_one_line() -> None:
    assert str(FoundCheckpoint(Path("a\n::error::b"), "nanoGPT")).splitlines() == [
        "a\N{REPLACEMENT CHARACTER}::error::b: nanoGPT; no step; no held-out loss recorded"
    ]


def test_the_ranking_does_not_depend_on_the_order_of_the_files() -> None:
    paths = [FoundCheckpoint(Path(name), step=1, val_loss=2.0) for name in "cab"]
    assert ranked(paths) == ranked(reversed(paths))


def test_files_of_the_original_trainers_are_ranked_by_loss(shared: Path) -> None:
    candidates = find_checkpoints(shared / "fixtures").candidates
    assert [(one.path.name, one.layout, one.step, round(one.val_loss or 0, 4)) for one in candidates] == [
        ("ckpt.pt", "nanoGPT", 40, 3.5872),
        ("ckpt.pt", "nanoGPT", 40, 3.5945),
        ("ckpt_20261124_035214_40_dca8f64e_44a379d7.pt", "NanEcho cache", 40, 4.5667),
        ("best_model_export.pt", "NanEcho best_model_export", 40, 4.5667),
    ]
