"""Validation of model and dataset cards."""

import json

import pytest
from huggingface_hub.errors import BadRequestError
from localhub.card import check_card

GOOD = """---
license: mit
language: [en, "no", pt]
language_bcp47: [pt-BR]
tags: [gpt2]
datasets: [me/corpus]
base_model: me/base
pipeline_tag: text-generation
model-index:
- name: model
  results:
  - task: {type: text-generation}
    dataset: {type: me/corpus, name: Corpus}
    metrics: [{type: loss, value: 1.5}]
---
# Model
"""


def test_valid_card_has_no_errors_or_warnings():
    assert check_card(GOOD, "model") == ([], [])


@pytest.mark.parametrize(
    ("front", "message"),
    [
        ("license: [", "Invalid YAML"),
        ("license: my-own", '"license" must be one of'),
        ("language: no", '"language" must only contain'),
        ("language: English language", '"language" must only contain'),
        ("language: pt-BR", '"language" must only contain'),
        ("tags: gpt2", '"tags" must be an array'),
        ("tags: [1]", '"tags" must contain text'),
        ("datasets: [a b]", '"datasets" must contain repo ids'),
        ("pipeline_tag: [x]", '"pipeline_tag" must be a string'),
        ("model-index: {}", '"model-index" must be an array'),
        ("model-index: [{results: []}]", '.name" is required'),
        ("model-index: [{name: x, results: [{metrics: []}]}]", '.task.type" is required'),
        ("- a\n- b", "must be a mapping"),
        ("a: &x [1]\nb: *x", "aliases are not allowed"),
        ("1: x", "keys must be strings"),
    ],
)
def test_invalid_card_has_an_error_that_names_the_field(front, message):
    errors, _ = check_card(f"---\n{front}\n---\n# Model\n", "model")
    assert any(message in error for error in errors), errors


@pytest.mark.parametrize(
    ("front", "message"),
    [
        ("size_categories: [many]", '"size_categories" must be one of'),
        ("configs: {}", '"configs" must be an array'),
        ("configs: [{data_files: []}]", '"configs[0].config_name" is required'),
        ("configs: [{config_name: default, data_files: [{split: train}]}]", "needs a split and a path"),
    ],
)
def test_invalid_dataset_card_has_an_error_that_names_the_field(front, message):
    card = f"---\nlicense: mit\n{front}\n---\n# Data\n"
    errors, _ = check_card(card, "dataset")
    assert any(message in error for error in errors), errors
    assert check_card(card, "model") == ([], [])


def test_metadata_after_an_empty_line_is_read(api, repo, put):
    assert check_card(f"\n \n{GOOD}", "model") == ([], [])
    assert any("array" in error for error in check_card("\n---\nmodel-index: foo\n---\n# Model\n", "model")[0])
    assert check_card("\n---\nlicense: mit\n", "model")[0]
    put(api, {"README.md": b"\n" + GOOD.encode()})
    assert api.model_info(repo).card_data.license == "mit"


def test_validation_in_plain_text(ask, hub):
    def answer(content):
        body = json.dumps({"content": content, "repoType": "model"}).encode()
        return ask(hub.url, "POST", "/api/validate-yaml", body, {"Accept": "text/plain"})

    refused, warned, accepted = answer("---\nlicense: asdf\n---\n"), answer("# Model"), answer(GOOD)
    assert (refused.status, refused.body.startswith(b'- Error: "license" must be one of')) == (400, True)
    assert (warned.status, warned.body) == (200, b"- Warning: empty or missing yaml metadata in repo card")
    assert (accepted.status, accepted.body) == (200, b"")
    assert accepted.headers["content-type"].startswith("text/plain")


def test_card_with_unterminated_metadata():
    assert check_card("---\nlicense: mit\n", "model")[0]


def test_card_without_metadata_is_accepted_with_a_warning():
    assert check_card("# Model\n", "model") == ([], ["empty or missing yaml metadata in repo card"])


def test_upload_of_a_readme_is_validated(api, repo, put):
    with pytest.raises((BadRequestError, ValueError), match="license"):
        put(api, {"README.md": b"---\nlicense: my-own\n---\n"})
    assert not api.file_exists(repo, "README.md")
    with pytest.warns(UserWarning, match="empty or missing yaml"):
        put(api, {"README.md": b"# Model\n"})
    put(api, {"README.md": GOOD.encode()})
    assert api.model_info(repo).card_data.license == "mit"
