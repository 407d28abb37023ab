import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch
import yaml

from echoself_action.checkpoint.metadata import ParityFacts, Sample, ppmd_text
from echoself_action.checkpoint.model_folder import ModelFolder
from echoself_action.config.inputs import ACTION_INPUTS
from echoself_action.hub.cards.model_card import OLD_MARKER, CardChoices, card_to_fill, model_card
from echoself_action.hub.endpoint import Hub
from echoself_action.hub.history import history_entry, parse_history
from echoself_action.hub.publish import ensure_repo, model_files, publish_model
from echoself_action.hub.repo import look_up

PARITY = ParityFacts(tensors=28, max_abs_diff=2e-7, argmax_agreement=1.0, positions=128)
SAMPLE = Sample(prompt='Speak,\n"speak".', continuation=" We will | not <b>hear</b>\n```\n", from_corpus=True)


@pytest.fixture
def card(model_folder: ModelFolder) -> str:
    assert model_folder.metadata
    facts = model_folder.metadata.model_copy(update={"step": 100, "val_loss": 1.5, "best_val_loss": 1.5, "best_step": 100})
    folder = ModelFolder(model_folder.path, model_folder.config, facts)
    history = parse_history(b"")
    for day in (1, 2):
        publish = history_entry(folder, history, {}, 2.25, datetime(2026, 1, day, 3, 4, tzinfo=UTC))
        assert publish
        history = history.followed_by(publish)
    choices = CardChoices(license="mit", language=("en",), sample=SAMPLE, pad_token="<|endoftext|>")
    return model_card("someone/model", folder, PARITY, choices, history.entries)


def test_the_front_matter_has_the_fields_that_the_hub_shows(card: str) -> None:
    front = yaml.safe_load(card.split("---")[1])
    assert front["license"] == "mit"
    assert front["language"] == ["en"]
    assert front["library_name"] == "transformers"
    assert front["pipeline_tag"] == "text-generation"
    metrics = {metric["type"]: metric["value"] for metric in front["model-index"][0]["results"][0]["metrics"]}
    assert list(metrics.items()) == [("bits_per_byte", 2.25), ("loss", 1.5), ("perplexity", 4.481689)]


def test_the_card_reports_training_results_and_limits(card: str) -> None:
    for fact in (
        "| Steps | 100 |",
        "| Validation loss | 1.5000 nats per token |",
        "`bytes`, 257 entries",
        "all 28 tensors match",
        "2.0e-07",
        "## Intended use and limits",
        "| Held-out text | 2.2500 bits per byte |",
        "](metrics/history.png)",
        "| 2026-01-02 03:04 | 100 | 2.2500 | 1.5000 | 4.48 |",
        "year = {2026}",
    ):
        assert fact in card


def test_the_hub_accepts_the_card_without_a_warning(
    card: str, hub: Hub, model_folder: ModelFolder, recwarn: pytest.WarningsRecorder
) -> None:
    remote = ensure_repo(hub, look_up(hub, "someone/model", "main"), private=False)
    publish_model(hub, remote, model_files(model_folder, card), "Model")
    assert not [str(warning.message) for warning in recwarn if "README" in str(warning.message)]


def test_the_snippet_runs(card: str, model_folder: ModelFolder, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    [snippet] = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    torch.manual_seed(0)
    exec(snippet.replace("someone/model", str(model_folder.path)))  # noqa: S102
    assert capsys.readouterr().out.startswith(SAMPLE.prompt)


def test_the_card_has_a_sample_with_a_prompt_of_the_corpus(card: str) -> None:
    assert 'held-out document:\n\n    Speak,\n    "speak".\n\n' in card
    assert "\n\n    We will | not <b>hear</b>\n    ```\n" in card
    [example] = yaml.safe_load(card.split("---")[1])["widget"]
    assert (example["text"], example["output"]) == (SAMPLE.prompt, {"text": SAMPLE.continuation})


def test_examples_of_the_widget_that_the_user_wrote_are_kept(card: str, model_folder: ModelFolder) -> None:
    def widget(kept: str, sample: Sample) -> list[dict[str, str]]:
        again = model_card("someone/model", model_folder, PARITY, CardChoices(sample=sample), kept=kept)
        found: list[dict[str, str]] = yaml.safe_load(again.split("---")[1])["widget"]
        return found

    later = Sample(prompt="Later")
    assert [one["text"] for one in widget(card, later)] == ["Later"]
    mixed = card.replace("widget:\n", "widget:\n- text: Mine\n")
    assert [one["text"] for one in widget(mixed, later)] == ["Mine", "Later"]
    assert [one["text"] for one in widget("---\nwidget:\n- text: Mine\n---\n# Mine\n", later)] == ["Mine"]


def test_the_card_says_what_prompts_may_be(card: str, model_folder: ModelFolder) -> None:
    assert "32 tokens, for the prompt and the generated text together" in card
    assert "padded at their start with `<|endoftext|>`" in card
    without = model_card("a/b", model_folder, PARITY, CardChoices())
    assert "no token for padding" in without


def test_no_table_has_an_empty_head(card: str) -> None:
    lines = card.splitlines()
    heads = [lines[number - 1] for number, line in enumerate(lines) if re.fullmatch(r"\|(---\|)+", line)]
    assert len(heads) == 3
    assert [head for head in heads if re.search(r"\|\s*\|", head)] == []


def test_the_card_says_what_bits_per_byte_are_and_what_ppmd_needs(card: str, model_folder: ModelFolder) -> None:
    assert model_folder.metadata
    assert ppmd_text(model_folder.metadata.data) in card
    assert "how many bits the model needs" in card


def test_the_same_model_gives_the_same_card(card: str, model_folder: ModelFolder) -> None:
    assert model_card("a/b", model_folder, PARITY, CardChoices()) == model_card("a/b", model_folder, PARITY, CardChoices())


def test_the_workflow_in_the_card_uses_only_existing_inputs(card: str) -> None:
    [block] = re.findall(r"```yaml\n(.*?)```", card, re.DOTALL)
    step = yaml.safe_load(block)[-1]
    assert step["uses"].startswith("9cog/echoself-action@")
    assert set(step["with"]) <= set(ACTION_INPUTS)
    assert (step["with"]["repo_id"], step["with"]["mode"]) == ("someone/model", "cycle")


def test_text_that_the_user_changes_outside_the_markers_is_kept(card: str, model_folder: ModelFolder) -> None:
    edited = card.replace("# model\n", "# Our model\n\nA word of ours.\n").replace("license: mit", "license: cc-by-4.0")
    edited = edited.replace("| Steps | 100 |", "| Steps | lots |")
    again = model_card("someone/model", model_folder, PARITY, CardChoices(), kept=edited)
    assert "# Our model\n\nA word of ours.\n" in again
    assert yaml.safe_load(again.split("---")[1])["license"] == "cc-by-4.0"
    assert "| Steps | lots |" not in again
    assert "| Steps | 0 |" in again


def test_a_section_that_the_user_removed_is_not_added_again(card: str, model_folder: ModelFolder) -> None:
    edited = re.sub(r"<!-- echoself:limits -->.*?<!-- /echoself:limits -->", "", card, flags=re.DOTALL)
    assert "limits" not in model_card("someone/model", model_folder, PARITY, CardChoices(), kept=edited)


def test_a_template_gets_its_sections_and_the_front_matter(model_folder: ModelFolder) -> None:
    template = "# Ours\n\n<!-- echoself:use -->\n<!-- /echoself:use -->\n\nThe end.\n"
    text = model_card("someone/model", model_folder, PARITY, CardChoices(license="mit"), kept=template)
    assert yaml.safe_load(text.split("---")[1])["license"] == "mit"
    assert 'pipeline("text-generation", "someone/model")' in text
    assert text.endswith("<!-- /echoself:use -->\n\nThe end.\n")


def test_a_card_of_another_program_is_not_overwritten(card: str) -> None:
    assert card_to_fill(None, None) == (True, None)
    assert card_to_fill(f"{OLD_MARKER}\n# Old\n", None) == (True, None)
    assert card_to_fill(card, None) == (True, card)
    assert card_to_fill("# My model\n", None)[0] is False
    assert card_to_fill("# My model\n", "template") == (True, "template")


def test_text_from_a_checkpoint_cannot_end_a_section_of_the_card(model_folder: ModelFolder) -> None:
    assert model_folder.metadata
    assert model_folder.metadata.data
    data = model_folder.metadata.data.model_copy(update={"patterns": ["<!-- /echoself:training -->`|\n# x"]})
    facts = model_folder.metadata.model_copy(update={"data": data})
    text = model_card("a/b", ModelFolder(model_folder.path, model_folder.config, facts), PARITY, CardChoices())
    assert text.count("<!-- /echoself:training -->") == 1
    assert "\n# x" not in text
