from pathlib import Path

from ..conftest import SMALL, Cli


def test_what_is_pulled_can_be_trained_on_exactly(echoself: Cli, begun: Cli, workspace: Path) -> None:
    begun(f"cycle --hub hub --repo-id me/model --tokenizer bytes {SMALL}")
    pulled = echoself("pull --hub hub --repo-id me/model --output-dir elsewhere")
    assert (pulled["model_dir"], pulled["checkpoint"]) == ("elsewhere/checkpoint-20", "elsewhere/checkpoint-16")
    assert pulled["revision"] == "main"
    assert pulled["val_loss"]
    assert (workspace / "elsewhere/checkpoint-16/training_state/state.json").is_file()
    assert echoself(f"train {SMALL} --output-dir elsewhere")["step"] == "36"


def test_a_repo_that_is_not_there_is_said(echoself: Cli, workspace: Path) -> None:
    echoself("pull --hub hub --repo-id me/none", code=4)
    assert not (workspace / "echoself-model").exists()
