"""A damaged or incomplete checkpoint is detected, and the one before it is used; if none is complete, that is an error."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from echoself_action.checkpoint.select import best

from ..conftest import SMALL, Cli

TRAIN = f"train --tokenizer bytes {SMALL} --decay 0"
DEPLOY = "deploy --hub hub --repo-id me/model"


def flip(path: Path) -> None:
    """One bit, in the middle of the tensors."""
    content = bytearray(path.read_bytes())
    content[-len(content) // 3] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES = [
    ("model.safetensors", flip, "is damaged"),
    ("model.safetensors", truncate, "can't be read"),
    ("training_state/optimizer.safetensors", flip, "is damaged"),
    ("training_state/optimizer.safetensors", Path.unlink, "can't be read"),
    ("training_state/state.json", truncate, "can't be read"),
    ("training_state/state.json", Path.unlink, "can't be read"),
    ("config.json", Path.unlink, "config.json missing"),
    ("tokenizer.json", Path.unlink, "tokenizer.json missing"),
    ("training_metadata.json", truncate, "training_metadata.json is missing or can't be read"),
]


@pytest.fixture
def trained(begun: Cli, workspace: Path) -> Path:
    """Checkpoints of the steps 10 and 20."""
    begun(f"{TRAIN} --checkpoint-interval 10")
    return workspace / "echoself-model"


@pytest.mark.parametrize(("name", "damage", "message"), DAMAGES, ids=lambda value: getattr(value, "__name__", value))
def test_the_checkpoint_before_a_damaged_one_is_used_with_a_warning(
    echoself: Cli, trained: Path, capsys: pytest.CaptureFixture[str], name: str, damage: Callable[[Path], None], message: str
) -> None:
    damage(trained / "checkpoint-20" / name)
    outputs = echoself(TRAIN, "--max-iters 10")
    assert outputs["checkpoint"] == "echoself-model/checkpoint-20"
    [warning] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    assert message in warning
    assert "Resuming from echoself-model/checkpoint-10 (step 10) instead." in warning
    assert next(trained.glob("superseded-*/checkpoint-20"))


def test_if_no_checkpoint_is_complete_it_is_reported_and_nothing_is_changed(
    echoself: Cli, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip(trained / "checkpoint-10/model.safetensors")
    (trained / "checkpoint-20/config.json").unlink()
    echoself(TRAIN, code=3)
    message = capsys.readouterr().err
    assert "All checkpoints in echoself-model are damaged:" in message
    assert "checkpoint-10/model.safetensors is damaged" in message
    assert "checkpoint-20 is not a complete model folder: config.json missing" in message
    assert {"checkpoint-10", "checkpoint-20"} <= {path.name for path in trained.iterdir()}
    assert echoself(TRAIN, "--resume never --confirm-fresh-start --max-iters 5")["step"] == "5"


def test_checkpoint_auto_skips_a_damaged_checkpoint(echoself: Cli, trained: Path) -> None:
    flip(trained / "checkpoint-20/model.safetensors")
    assert echoself(TRAIN, "--checkpoint auto --max-iters 5")["checkpoint"] == "echoself-model/checkpoint-15"


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model.safetensors", flip),
        ("model.safetensors", truncate),
        ("training_state/optimizer.safetensors", flip),
        ("training_state/state.json", Path.unlink),
        ("config.json", Path.unlink),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_cycle_downloads_the_hubs_checkpoint_again_if_the_local_copy_is_damaged(
    echoself: Cli, begun: Cli, workspace: Path, name: str, damage: Callable[[Path], None]
) -> None:
    """Else it would resume without the optimizer state, or fail in every later cycle."""
    cycle = f"cycle --hub hub --repo-id me/model --tokenizer bytes {SMALL}"
    begun(cycle)
    output_dir = workspace / "echoself-model"
    damage(output_dir / "checkpoint-16" / name)
    assert echoself(cycle)["step"] == "36"
    assert next(output_dir.glob("superseded-*/checkpoint-16"))


def test_a_named_damaged_checkpoint_is_not_replaced_by_another(
    echoself: Cli, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip(trained / "checkpoint-20/model.safetensors")
    echoself(TRAIN, "--checkpoint echoself-model/checkpoint-20", code=3)
    assert "is damaged" in capsys.readouterr().err


def test_a_damaged_checkpoint_cannot_be_the_best_of_a_later_run(echoself: Cli, trained: Path) -> None:
    """Its metadata still says that its loss is the lowest."""
    lowest = trained / "checkpoint-10/training_metadata.json"
    lowest.write_text(json.dumps(json.loads(lowest.read_text()) | {"val_loss": 0.1}))
    flip(trained / "checkpoint-10/model.safetensors")
    assert best(trained).step == 10  # type: ignore[union-attr]
    outputs = echoself(TRAIN, "--max-iters 10 --decay 0")
    assert outputs["step"] == "30"
    assert echoself(DEPLOY)["step"] == "30"


def test_a_damaged_best_is_not_published_nor_another_in_its_place(
    echoself: Cli, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = best(trained)
    assert chosen
    flip(chosen.path / "model.safetensors")
    echoself(DEPLOY, code=3)
    assert f"checkpoint-{chosen.step}/model.safetensors is damaged" in capsys.readouterr().err
    assert not list(Path("hub").rglob("model.safetensors"))


def test_deploy_warns_about_an_incomplete_model_folder_it_skips(
    echoself: Cli, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (trained / "checkpoint-20/config.json").unlink()
    assert echoself(DEPLOY)["step"] == "10"
    message = "config.json missing. It was not used. echoself-model/checkpoint-10 is published instead."
    assert message in capsys.readouterr().out
