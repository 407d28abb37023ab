"""The input `settings` of the action, YAML that is wrong, and names that are given in the wrong place."""

import json
from pathlib import Path
from typing import Any

import pytest

from echoself_action.config.inputs import ACTION_INPUTS, DEFAULT_CONFIG, LAUNCH_INPUTS, Inputs
from echoself_action.config.load import ACTION_VARIABLE, load_models
from echoself_action.errors import InputError
from echoself_action.input_field import GROUPS, declared

REFUSED = {"hf_token", "settings", *LAUNCH_INPUTS}


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def action(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Loads the inputs as the action passes them on."""

    def load(inputs: dict[str, str], flags: dict[str, str] | None = None, unknown: tuple[str, ...] = ()) -> Inputs:
        monkeypatch.setenv(ACTION_VARIABLE, json.dumps({"mode": "train"} | inputs))
        (loaded,) = load_models(flags or {}, unknown).values()
        return loaded

    return load


def errors(load: Any, *given: Any) -> list[InputError]:
    with pytest.raises(InputError) as caught:
        load(*given)
    assert all(problem.hint for problem in caught.value.problems)
    return list(caught.value.problems)


def write_file(text: str) -> None:
    Path(DEFAULT_CONFIG).parent.mkdir(parents=True, exist_ok=True)
    Path(DEFAULT_CONFIG).write_text(text)


def test_a_flag_beats_settings_which_beat_the_file(action: Any) -> None:
    write_file("n_layer: 1\nn_head: 1\nn_embd: 8\n")
    inputs = action({"settings": "n_layer: 2\nn_head: 2"}, {"n_layer": "3"})
    assert (inputs.n_layer, inputs.n_head, inputs.n_embd, inputs.settings) == (3, 2, 8, None)


@pytest.mark.parametrize(
    "text", ["language: [en, de]", "language: en, de", "language:\n  - en\n  - de", "{language: [en, de]}"]
)
def test_lists_are_those_of_yaml_or_text(action: Any, text: str) -> None:
    assert action({"settings": text}).language == ["en", "de"]


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "n_layer:\n", "n_layer: ''\n", "n_layer: null\n", "~"])
def test_empty_settings_are_not_given(action: Any, text: str) -> None:
    write_file("n_layer: 2")
    assert action({"settings": text}).n_layer == 2


def test_a_value_is_the_text_that_is_written(action: Any) -> None:
    """YAML's own types would change these."""
    text = "tag: 1.10\nrevision: 2024-01-31\nlanguage: no\nlicense: other\nlicense_name: 010\n"
    text += 'verify: off\nsign: off\ncompile: True\nseed: "7"\n'
    inputs = action({"settings": text})
    assert (inputs.tag, inputs.revision, inputs.language, inputs.license_name) == ("1.10", "2024-01-31", ["no"], "010")
    assert (inputs.verify, inputs.sign, inputs.compile, inputs.seed) == ("off", "off", "true", 7)


def test_anchors_and_merge_keys_work_in_the_file() -> None:
    write_file("mode: train\nmodels:\n  a: &a {n_layer: 1, seed: 2}\n  b: {<<: *a, n_layer: 3}\n  c: {<<: [*a], seed: ~}\n")
    models = load_models({})
    assert [(inputs.n_layer, inputs.seed) for inputs in models.values()] == [(1, 2), (3, 2), (1, 1337)]


def test_each_input_may_be_a_setting_unless_it_is_refused(action: Any) -> None:
    for name in Inputs.model_fields:
        found = [problem.message for problem in all_problems(action, {"mode": "", "settings": f"mode: train\n{name}: é\n"})]
        expected = name in REFUSED
        assert any(message.startswith(f"{name} in settings: can't be") or "secret" in message for message in found) == expected


def all_problems(load: Any, *given: Any) -> list[InputError]:
    try:
        load(*given)
    except InputError as error:
        return list(error.problems)
    return []


def test_an_input_in_both_places_is_an_error_that_names_both(action: Any) -> None:
    (problem,) = errors(action, {"repo_id": "a/b", "settings": "repo_id: a/c"})
    assert problem.message == "repo_id in settings: also given as the input repo_id."


@pytest.mark.parametrize("name", ["hf_token", "runtime", "image", "settings"])
@pytest.mark.parametrize("place", ["settings", "file", "model"])
def test_secrets_and_launch_inputs_are_refused_with_the_right_place(action: Any, name: str, place: str) -> None:
    text = f"{name}: hf_abcdef"
    if place == "settings":
        (problem,) = errors(action, {"settings": text})
        assert problem.message.startswith(f"{name} in settings: ")
    else:
        write_file(text if place == "file" else f"models:\n  one:\n    {text}\n")
        (problem,) = errors(action, {})
        where = DEFAULT_CONFIG if place == "file" else f"models.one in {DEFAULT_CONFIG}"
        assert problem.message.startswith(f"{name} {'in' if place == 'file' else 'of'} {where}: cannot be set in the file")
        assert (problem.file, problem.line) == (DEFAULT_CONFIG, 1 if place == "file" else 3)
    assert "hf_abcdef" not in str(problem)
    assert "with:" in problem.hint or name == "settings"


def test_settings_is_not_a_flag(action: Any) -> None:
    (problem,) = errors(action, {}, {}, ("--settings", "n_layer: 6"))
    assert problem.message == "--settings is not a flag of this mode."
    assert "--n-layer 6" in problem.hint


@pytest.mark.parametrize(
    ("flag", "hint"),
    [
        ("--n_layer", "Did you mean --n-layer?"),
        ("--n-layr", "Did you mean --n-layer?"),
        ("--promote", "It is an input of compare."),
    ],
)
def test_a_flag_that_does_not_exist_suggests_one(action: Any, flag: str, hint: str) -> None:
    (problem,) = errors(action, {}, {}, (flag, "6"))
    assert problem.hint == hint


def test_config_may_be_a_setting_but_not_a_key_of_the_file(action: Any) -> None:
    write_file("config: other.yml\nseed: 1\n")
    Path("other.yml").write_text("seed: 2")
    assert action({"settings": "config: other.yml"}).seed == 2
    (problem,) = errors(action, {})
    assert problem.message.startswith(f"config in {DEFAULT_CONFIG}: cannot be set in the file that it names")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n_layer: [", "input settings is not valid YAML: line 1, column 11: "),
        ("n_layer 6", "input settings is a text, not a mapping"),
        ("- n_layer: 6", "input settings is a list, not a mapping"),
        ("a: 1\n---\nb: 2", "input settings is not valid YAML: line 2"),
        ("a: \x01", "input settings is not valid YAML: unacceptable character"),
        ("[" * 3000, "input settings is not valid YAML: it is nested too deeply"),
        ("n_layer: 6\nn_layer: 7", "n_layer in settings: given twice, in line 1 and in line 2."),
        ("n_layer: {a: 1}", "n_layer in settings: a mapping, not a value."),
        ("models: {a: {n_layer: 1}}", "models in settings: can't be a setting."),
        ("data: [a.md, [b.md]]", "data in settings: a list with something else than texts."),
        ("data: &a [*a]", "data in settings: a list with something else than texts."),
        ("n_layer: [1, 2]", "n_layer in settings: ['1', '2']: input should be a valid integer"),
        ("n_layer: !secret x", "n_layer in settings: the tag !secret is not supported."),
        ("? [a]\n: b", "? in settings: a name that is not a text."),
        ("<<: 5", "<< in settings: not a mapping to merge."),
        ("n_layers: 6", "n_layers in settings: there is no such input."),
        ("x" * 500 + ": 1", "x" * 100 + "... in settings: there is no such input."),
    ],
)
def test_wrong_yaml_is_an_error_with_its_place(action: Any, text: str, message: str) -> None:
    (problem,) = errors(action, {"settings": text})
    assert problem.message.startswith(message)


def test_all_problems_of_settings_and_file_are_reported_at_once(action: Any) -> None:
    write_file("seed: 1\nseed: 2\nn_head: {}\nn_embd: many\n")
    found = errors(action, {"blok_size": "1", "settings": "n_layer: 1\nn_layer: 2\nsead: 1\n"}, {}, ("--colour",))
    places = sorted((problem.message.partition(":")[0], problem.line) for problem in found)
    assert places == [
        ("--colour is not a flag of this mode.", None),
        ("input blok_size", None),
        ("n_embd in .github/echoself.yml", 4),
        ("n_head in .github/echoself.yml", 3),
        ("n_layer in settings", None),
        ("sead in settings", None),
        ("seed in .github/echoself.yml", 2),
    ]
    hints = {problem.message.partition(":")[0]: problem.hint for problem in found}
    assert hints["input blok_size"] == "Did you mean block_size? It is a setting."


def test_two_texts_that_are_not_yaml_are_both_reported_and_nothing_that_they_may_have(action: Any) -> None:
    write_file("repo_id: [")
    found = errors(action, {"mode": "deploy", "settings": "a: ["})
    assert [problem.message.partition(" is ")[0] for problem in found] == ["input settings", f"config: {DEFAULT_CONFIG}"]


def test_an_error_of_yaml_does_not_repeat_the_text(action: Any) -> None:
    (problem,) = errors(action, {"settings": "hf_token: hf_abcdef\n  x: [hf_abcdef"})
    assert "hf_abcdef" not in str(problem)


def test_settings_as_inputs_are_refused_with_the_yaml_to_write(action: Any) -> None:
    (problem,) = errors(action, {"n_layer": "6", "candidates": "a.pt\nb: c", "card": "'x'"})
    assert problem.message == "inputs n_layer, candidates, card: settings, not inputs of the action."
    fix = problem.hint.partition("settings: |\n")[2]
    (again,) = errors(action, {"settings": fix.replace("n_layer: 6", "n_layer: x")})
    assert again.message.startswith("n_layer in settings: 'x'"), "the text that is to be written is read"


def test_every_setting_is_refused_as_an_input(action: Any) -> None:
    for name in Inputs.model_fields:
        found = [problem.message for problem in all_problems(action, {name: "1"})]
        assert (f"input {name}: a setting, not an input of the action." in found) == (name not in ACTION_INPUTS)


@pytest.mark.parametrize(
    ("name", "advice"), [("HFMODEL", "Use repo_id."), ("training_type", "Use preset"), ("force_fresh_start", "`resume: never`")]
)
def test_inputs_of_the_echoself_workflows_are_refused_with_the_new_name(action: Any, name: str, advice: str) -> None:
    (problem,) = errors(action, {name: "ci"})
    assert problem.message.endswith("there is no such input.")
    assert advice in problem.hint


def test_the_case_of_an_input_does_not_matter(action: Any) -> None:
    """As for GitHub."""
    assert action({"Max_Iters": "7"}).max_iters == 7


def test_every_input_has_a_group_and_every_group_an_input() -> None:
    assert {declared(field, "group") for field in Inputs.model_fields.values()} == set(GROUPS)
    assert set(ACTION_INPUTS) <= set(Inputs.model_fields)
    assert len(set(ACTION_INPUTS)) == 26
