from pathlib import Path

from ..conftest import SMALL, Cli


def test_training_resumes_exactly_from_a_pulled_checkpoint(echoself: Cli, begun: Cli, workspace: Path) -> None:
    begun(f"cycle --hub hub --repo-id me/model --tokenizer bytes {SMALL}")
    pulled = echoself("pull --hub hub --repo-id me/model --output-dir elsewhere")
    assert (pulled["model_dir"], pulled["checkpoint"]) == ("elsewhere/checkpoint-20-decayed", "elsewhere/checkpoint-16")
    assert pulled["revision"] == "main"
    assert pulled["val_loss"]
    assert (workspace / "elsewhere/checkpoint-16/training_state/state.json").is_file()
    assert echoself(f"train {SMALL} --output-dir elsewhere")["step"] == "36"


def test_a_missing_repo_is_reported(echoself: Cli, workspace: Path) -> None:
    echoself("pull --hub hub --repo-id me/none", code=4)
    assert not (workspace / "echoself-model").exists()
