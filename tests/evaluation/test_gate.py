import pytest

from echoself_action.checkpoint.model_folder import ModelFolder
from echoself_action.evaluation.gate import judge_loss


def evaluated(folder: ModelFolder, val_loss: float | None) -> ModelFolder:
    assert folder.metadata
    return ModelFolder(folder.path, folder.config, folder.metadata.model_copy(update={"val_loss": val_loss}))


@pytest.mark.parametrize(("val_loss", "passed"), [(2.0, True), (2.5, True), (2.51, False), (None, False)])
def test_max_val_loss_needs_a_recorded_loss_of_at_most_its_value(
    model_folder: ModelFolder, val_loss: float | None, passed: bool
) -> None:
    verdict = judge_loss("max_val_loss=2.5", evaluated(model_folder, val_loss))
    assert verdict.passed is passed
    assert "2.5" in verdict.reason


def test_gate_none_passes_every_model(model_folder: ModelFolder) -> None:
    assert judge_loss("none", evaluated(model_folder, None)).passed


def test_a_model_without_metadata_does_not_pass_max_val_loss(model_folder: ModelFolder) -> None:
    assert not judge_loss("max_val_loss=9", ModelFolder(model_folder.path, model_folder.config, None)).passed
