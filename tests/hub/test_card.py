import re
from pathlib import Path

import pytest
import torch
import yaml

from echoself_action.checkpoint.folder import ModelFolder
from echoself_action.checkpoint.metadata import ParityFacts
from echoself_action.hub.card import CardChoices, is_ours, model_card
from echoself_action.hub.client import Hub
from echoself_action.hub.publish import ensure_repo, model_files, publish_model
from echoself_action.hub.repo import look_up

PARITY = ParityFacts(tensors=28, max_abs_diff=2e-7, argmax_agreement=1.0, positions=128)


@pytest.fixture
def card(model_folder: ModelFolder) -> str:
    assert model_folder.metadata
    facts = model_folder.metadata.model_copy(update={"step": 100, "val_loss": 1.5, "best_val_loss": 1.5, "best_step": 100})
    folder = ModelFolder(model_folder.path, model_folder.config, facts)
    return model_card("someone/model", folder, PARITY, CardChoices(license="mit", language=("en",)))


def test_the_front_matter_says_what_the_hub_shows(card: str) -> None:
    front = yaml.safe_load(card.split("---")[1])
    assert front["license"] == "mit"
    assert front["language"] == ["en"]
    assert front["library_name"] == "transformers"
    assert front["pipeline_tag"] == "text-generation"
    [metric] = front["model-index"][0]["results"][0]["metrics"]
    assert (metric["type"], metric["value"]) == ("loss", 1.5)


def test_the_text_says_how_it_was_trained_and_where_its_limits_are(card: str) -> None:
    for fact in (
        "| Steps | 100 |",
        "| Validation loss | 1.5000 |",
        "`bytes`, 257 entries",
        "28 tensors, none missing",
        "2.0e-07",
        "## Limits",
    ):
        assert fact in card


def test_the_hub_accepts_it_without_a_warning(
    card: str, hub: Hub, model_folder: ModelFolder, recwarn: pytest.WarningsRecorder
) -> None:
    remote = ensure_repo(hub, look_up(hub, "someone/model", "main"), private=False)
    publish_model(hub, remote, model_files(model_folder, card), "Model")
    assert not [str(warning.message) for warning in recwarn if "README" in str(warning.message)]


def test_the_snippet_runs(card: str, model_folder: ModelFolder, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    [snippet] = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    torch.manual_seed(0)
    exec(snippet.replace("someone/model", str(model_folder.path)))  # noqa: S102
    assert capsys.readouterr().out.startswith("The")


def test_the_same_model_gives_the_same_card(card: str, model_folder: ModelFolder) -> None:
    assert model_card("a/b", model_folder, PARITY, CardChoices()) == model_card("a/b", model_folder, PARITY, CardChoices())


def test_a_card_that_a_person_wrote_is_not_ours(card: str) -> None:
    assert is_ours(card)
    assert is_ours(None)
    assert not is_ours("# My model\n")
