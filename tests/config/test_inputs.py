import json
from pathlib import Path
from typing import Any

import pytest

from echoself_action.config.inputs import DEFAULT_CONFIG, Inputs
from echoself_action.config.load import ACTION_VARIABLE, load_models
from echoself_action.config.mode_inputs import (
    CompareInputs,
    CycleInputs,
    DeployInputs,
    ImportInputs,
    PullInputs,
    ReviewInputs,
    TrainInputs,
)
from echoself_action.errors import InputError
from echoself_action.model.config import GPT2Config
from echoself_action.training.optim.optimizers import OPTIMIZERS

GPT2 = GPT2Config(1024, 128, 4, 4, 256)


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load_inputs(flags: dict[str, Any], unknown: tuple[str, ...] = ()) -> Inputs:
    (inputs,) = load_models(flags, unknown).values()
    return inputs


def problems(flags: dict[str, Any], unknown: tuple[str, ...] = ()) -> list[str]:
    with pytest.raises(InputError) as caught:
        load_inputs(flags, unknown)
    assert caught.value.exit_code == 2
    assert all(problem.hint for problem in caught.value.problems)
    return [problem.message for problem in caught.value.problems]


def write_config(text: str, path: str = DEFAULT_CONFIG) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def test_a_flag_beats_the_action_which_beats_the_file_which_beats_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    write_config("seed: 1\nmax_iters: 1\nn_layer: 1\nmode: train\n")
    monkeypatch.setenv(ACTION_VARIABLE, json.dumps({"max_iters": "2", "settings": "seed: 2"}))
    inputs = load_inputs({"seed": "3"})
    assert (inputs.seed, inputs.max_iters, inputs.n_layer, inputs.n_head) == (3, 2, 1, None)


def test_an_empty_string_counts_as_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    write_config("seed: 1\n")
    monkeypatch.setenv(ACTION_VARIABLE, json.dumps({"mode": "train", "settings": "", "repo_id": "", "data": ""}))
    inputs = load_inputs({"tokenizer": ""})
    assert (inputs.seed, inputs.repo_id, inputs.tokenizer, inputs.data) == (1, None, None, ["**/*.md"])


def test_config_selects_another_file_by_flag_or_by_the_action(monkeypatch: pytest.MonkeyPatch) -> None:
    write_config("seed: 1")
    write_config("seed: 2", "other.yml")
    assert load_inputs({"mode": "train", "config": "other.yml"}).seed == 2
    monkeypatch.setenv(ACTION_VARIABLE, json.dumps({"config": "other.yml"}))
    assert load_inputs({"mode": "train"}).seed == 2


def test_lists_come_as_commas_lines_or_yaml() -> None:
    assert load_inputs({"mode": "train", "data": "a.md, b.txt\nc.jsonl"}).data == ["a.md", "b.txt", "c.jsonl"]
    write_config("data:\n  - a.md\n  - b.txt\n")
    assert load_inputs({"mode": "train"}).data == ["a.md", "b.txt"]


def test_yaml_may_write_a_tag_as_a_number() -> None:
    write_config("tag: 1.5\nrevision: 2024\nrepo_id: a/b")
    inputs = load_inputs({"mode": "deploy"})
    assert (inputs.tag, inputs.revision) == ("1.5", "2024")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"mode": "trian"}, "mode: 'trian' is not a valid mode."),
        ({}, "mode: missing."),
        ({"mode": "train", "preset": "ci", "n_embd": "130"}, "--n-embd: 130 is not divisible by n_head, 4."),
        ({"mode": "train", "n_embd": "66", "n_head": "3", "architecture": "nanecho"}, "--n-embd: 66 is not divisible by 4."),
        (
            {"mode": "train", "persona_dimensions": "calm"},
            "--persona-dimensions: only a new NanEcho model has this input.",
        ),
        (
            {"mode": "train", "persona_dimensions": "c.d", "architecture": "nanecho"},
            "--persona-dimensions: 'c.d' has an invalid",
        ),
        (
            {"mode": "train", "persona_dimensions": "half", "architecture": "nanecho"},
            "--persona-dimensions: 'half': that name is",
        ),
        (
            {"mode": "train", "persona_dimensions": "a,b,a", "architecture": "nanecho"},
            "--persona-dimensions: ['a', 'b', 'a']: contains",
        ),
        ({"mode": "train", "nanecho_paths": "none"}, "--nanecho-paths: only a new NanEcho model has this input."),
        (
            {"mode": "train", "nanecho_paths": "none,recursive_reasoning", "architecture": "nanecho"},
            "--nanecho-paths: 'none,recursive_reasoning': none excludes all others",
        ),
        (
            {"mode": "train", "nanecho_paths": "recursion", "architecture": "nanecho"},
            "--nanecho-paths: 'recursion' is not an allowed value.",
        ),
        (
            {"mode": "train", "nanecho_paths": "none", "persona_dimensions": "calm", "architecture": "nanecho"},
            "--nanecho-paths: it leaves out persona_dimensions, and the input persona_dimensions names some.",
        ),
        ({"mode": "train", "architecture": "llama"}, "--architecture: 'llama' is not an allowed value."),
        ({"mode": "train", "n_layer": "zero"}, "--n-layer: 'zero': input should be a valid integer"),
        ({"mode": "train", "learning_rate": "0"}, "--learning-rate: '0': input should be greater than 0"),
        ({"mode": "train", "learning_rate": "nan"}, "--learning-rate: 'nan': input should be"),
        ({"mode": "train", "val_fraction": "0.9"}, "--val-fraction: '0.9': input should be less than or equal to 0.5"),
        ({"mode": "train", "preset": "huge"}, "--preset: 'huge' is not an allowed value."),
        ({"mode": "train", "tokenizer": "bert"}, "--tokenizer: 'bert' has an invalid format"),
        ({"mode": "train", "preset": "ci", "warmup": "200"}, "--warmup: 200 must be less than max_iters, 200."),
        ({"mode": "train", "max_minutes": "0"}, "--max-minutes: 0 is no time limit, and preset: auto has no other."),
        ({"mode": "train", "resume": "never"}, "--resume: never would abandon the trained model."),
        ({"mode": "train", "repo_id": "no-owner"}, "--repo-id: 'no-owner' has an invalid format"),
        ({"mode": "train", "repo_id": "../x/y"}, "--repo-id: '../x/y' has an invalid format"),
        ({"mode": "deploy", "repo_id": "me/a--b"}, "--repo-id: 'me/a--b' has an invalid format"),
        ({"mode": "deploy", "repo_id": "me/a.git"}, "--repo-id: 'me/a.git' has an invalid format"),
        ({"mode": "deploy", "repo_id": f"me/{'m' * 94}"}, f"--repo-id: 'me/{'m' * 94}' has an invalid format"),
        ({"mode": "train", "data": "hf://datasets/me/a--b"}, "--data: hf://datasets/me/a--b is not a valid dataset on the Hub"),
        ({"mode": "train", "revision": "../x"}, "--revision: '../x' has an invalid format"),
        ({"mode": "deploy"}, "repo_id: missing, and deploy requires it."),
        ({"mode": "train", "blok_size": "1"}, "--blok-size: there is no such input."),
        ({"mode": "train", "private": "perhaps"}, "--private: 'perhaps': input should be a valid boolean"),
    ],
)
def test_an_invalid_input_is_reported_with_its_place(flags: dict[str, Any], message: str) -> None:
    found = problems(flags)
    assert len(found) == 1
    assert found[0].startswith(message)


def test_all_invalid_inputs_are_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    write_config("sead: 1\npreset: ci")
    monkeypatch.setenv(ACTION_VARIABLE, json.dumps({"max_iters": "x", "settings": "n_embd: 130"}))
    found = problems({"mode": "cycle", "dtype": "float8"}, ("--colour=red",))
    places = [message.split(" ")[0] if message[0] == "-" else message.split(":")[0] for message in found]
    assert sorted(places) == [
        "--colour",
        "--dtype:",
        "input max_iters",
        "n_embd in settings",
        "repo_id",
        "sead in .github/echoself.yml",
    ]


def test_upload_datasets_contradicts_create_pr_another_layout_and_too_long_a_repo_id() -> None:
    given = {"mode": "deploy", "repo_id": "me/model", "upload_datasets": "true"}
    for more, message in (
        ({"create_pr": "true"}, "documents are published by a commit, and create_pr does not commit"),
        ({"dataset_layout": "folder", "dataset_repo_id": "me/words"}, "publishes the documents to the model repo"),
        ({"repo_id": f"me/{'m' * 88}"}, "the default name is longer than 96 characters"),
        ({"dataset_repo_id": "words"}, "'words' has an invalid format"),
        ({"dataset_repo_id": "me/my..words"}, "'me/my..words' has an invalid format"),
        ({"data": "hf://datasets/me/words"}, "from a dataset that is already on the Hub"),
        ({"data": "a.md,hf://me/words"}, "hf://me/words is not a valid dataset on the Hub"),
        ({"dataset_layout": "zip"}, "'zip' is not an allowed value"),
    ):
        assert any(message in problem for problem in problems(given | more)), message
    assert load_inputs(given).dataset_repo == "me/model-dataset"
    assert load_inputs(given | {"upload_datasets": "false", "create_pr": "true"}).dataset_repo is None


def test_two_models_with_different_documents_need_different_dataset_repos() -> None:
    both = "mode: deploy\nupload_datasets: true\ndataset_repo_id: me/words\nmodels:\n"
    write_config(both + "  one: {repo_id: me/one, data: a.md}\n  two: {repo_id: me/two, data: b.md}\n")
    (problem,) = problems({})
    assert "both would publish their documents to me/words" in problem
    write_config(both + "  one: {repo_id: me/one, n_layer: 1}\n  two: {repo_id: me/two, n_layer: 2}\n")
    assert len(load_models({}, ())) == 2


def test_demo_needs_a_space_of_its_own_and_exports_onnx() -> None:
    given = {"mode": "deploy", "repo_id": "me/model", "demo": "true"}
    assert (load_inputs(given).demo_repo, load_inputs(given).exported_formats) == ("me/model-demo", ["onnx"])
    assert load_inputs(given | {"formats": "onnx,gguf"}).exported_formats == ["onnx", "gguf"]
    assert load_inputs({**given, "demo": "false", "demo_repo_id": "me/page"}).demo_repo is None
    (problem,) = problems(given | {"repo_id": f"me/{'m' * 90}"})
    assert "the default name is longer than 96 characters" in problem
    assert load_inputs(given | {"repo_id": f"me/{'m' * 90}", "demo_repo_id": "me/page"}).demo_repo == "me/page"
    (problem,) = problems({"mode": "cycle", "repo_id": "me/model", "demo": "true", "architecture": "nanecho"})
    assert problem.startswith("--demo")
    write_config(
        "mode: deploy\ndemo: true\ndemo_repo_id: me/page\nmodels:\n  one: {repo_id: me/one}\n  two: {repo_id: me/two}\n"
    )
    (problem,) = problems({})
    assert "both would publish their page to me/page" in problem


def test_an_invalid_value_is_not_reported_again_as_a_contradiction() -> None:
    assert len(problems({"mode": "train", "n_embd": "x", "n_head": "3"})) == 1


def test_an_unknown_input_suggests_the_closest_name() -> None:
    with pytest.raises(InputError, match="Did you mean block_size"):
        load_inputs({"mode": "train", "blok_size": "1"})


def test_a_token_is_never_shown() -> None:
    inputs = load_inputs({"mode": "train", "hf_token": "hf_secret"})
    assert inputs.token == "hf_secret"
    assert "hf_secret" not in f"{inputs!r} {inputs} {inputs.model_dump()} {inputs.model_dump_json()}"
    for flags, unknown in (({"mode": "train", "hf_token": 5}, ()), ({"mode": "train"}, ("--hf-token=hf_secret",))):
        with pytest.raises(InputError) as caught:
            load_inputs(flags, unknown)
        assert "hf_secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [("a: [", "is not valid YAML"), ("- a\n- b", "is a list, not a mapping"), ("\xff", "is not valid YAML")],
)
def test_an_invalid_config_file_is_named(text: str, problem: str) -> None:
    Path("bad.yml").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=f"bad.yml {problem}"):
        load_inputs({"mode": "train", "config": "bad.yml"})


def test_a_missing_config_file_is_named() -> None:
    with pytest.raises(InputError, match=r"config: none.yml can't be read"):
        load_inputs({"mode": "train", "config": "none.yml"})


@pytest.mark.parametrize("text", ["{", "[1]", '"x"'])
def test_an_invalid_action_variable_is_reported(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ACTION_VARIABLE, text)
    with pytest.raises(InputError, match=f"{ACTION_VARIABLE} is not"):
        load_inputs({"mode": "train"})


def test_a_preset_fills_what_is_not_given() -> None:
    settings = load_inputs({"mode": "train", "preset": "full", "batch_size": "3"}).training_settings("muon", GPT2)
    assert settings.batch_size == 3
    assert settings.learning_rate == OPTIMIZERS["muon"].learning_rates["full"]


def test_the_presets_learning_rate_is_the_optimizers() -> None:
    ci = {"mode": "train", "preset": "ci"}
    given = load_inputs({**ci, "optimizer": "adamw"})
    assert given.training_settings("muon", GPT2).optimizer == "adamw"
    assert given.training_settings("muon", GPT2).learning_rate == OPTIMIZERS["adamw"].learning_rates["ci"]
    assert load_inputs(ci).training_settings("adamw", GPT2).learning_rate == OPTIMIZERS["adamw"].learning_rates["ci"]
    assert load_inputs({**ci, "learning_rate": "0.5"}).training_settings("muon", GPT2).learning_rate == 0.5


def test_every_input_has_help_and_belongs_to_a_mode() -> None:
    for name, declared in Inputs.model_fields.items():
        assert declared.description, name
        assert isinstance(declared.json_schema_extra, dict)
        assert declared.json_schema_extra["modes"], name


MODELS = """
preset: ci
n_embd: 128
models:
  docs: {data: "docs/*.md", repo_id: me/docs}
  code: {data: "src/*.py", repo_id: me/code, n_layer: 2, output_dir: elsewhere}
"""


def test_each_model_overrides_the_shared_inputs_and_has_its_own_output_dir() -> None:
    write_config(MODELS)
    docs, code = load_models({"mode": "train", "seed": "5"}).values()
    assert (docs.data, docs.repo_id, docs.n_layer, docs.n_embd, docs.seed) == (["docs/*.md"], "me/docs", None, 128, 5)
    assert (code.data, code.repo_id, code.n_layer, code.n_embd, code.seed) == (["src/*.py"], "me/code", 2, 128, 5)
    assert (docs.output_dir, code.output_dir) == (Path("echoself-model/docs"), Path("elsewhere"))
    given = load_models({"mode": "train", "output_dir": "out"}).values()
    assert [inputs.output_dir for inputs in given] == [Path("out/docs"), Path("out/code")]


def test_model_selects_one_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    write_config(MODELS)
    monkeypatch.setenv(ACTION_VARIABLE, json.dumps({"mode": "train", "settings": "model: code"}))
    assert list(load_models({})) == ["code"]
    assert list(load_models({"model": "docs"})) == ["docs"]
    assert load_inputs({"model": "docs"}).repo_id == "me/docs"


def test_invalid_inputs_of_all_models_are_reported_at_once_with_their_places() -> None:
    write_config(
        "preset: ci\nn_embd: 128\nlog_interval: none\n"
        "models:\n  a: {n_layer: zero, mode: pull}\n  b: {sead: 1, repo_id: me/b}\n"
        "  c: {n_head: 3, repo_id: me/b}\n"
    )
    found = [message.partition(f" in {DEFAULT_CONFIG}: ") for message in problems({"mode": "cycle", "model": "d"})]
    assert sorted((place, output[:20]) for place, _, output in found) == [
        ("log_interval", "'none': input should"),
        ("mode of models.a", "must be the same for"),
        ("model: 'd' is not one of the models in .github/echoself.yml.", ""),
        ("models.b and models.c", "both would be publis"),
        ("n_embd of models.c", "128 is not divisible"),
        ("n_layer of models.a", "'zero': input should"),
        ("repo_id of models.a", "missing, and cycle r"),
        ("sead of models.b", "there is no such inp"),
    ]


def test_two_models_cannot_share_an_output_dir() -> None:
    write_config("models:\n  a: {output_dir: x}\n  b: {output_dir: x}\n")
    assert "both have the output_dir x." in problems({"mode": "train"})[0]


@pytest.mark.parametrize("text", ["models: docs", "models: {}", "models: [a]", "models: {a/b: {}}", "models: {a: b}"])
def test_models_that_are_not_a_mapping_are_refused(text: str) -> None:
    write_config(text)
    with pytest.raises(InputError, match=r"models.* in .*: not a .*mapping of"):
        load_models({"mode": "train"})


def test_model_without_models_in_the_file_is_refused() -> None:
    assert problems({"mode": "train", "model": "docs"}) == [f"model: 'docs' is not one of the models in {DEFAULT_CONFIG}."]


def test_compare_needs_two_candidates_or_a_repo() -> None:
    assert problems({"mode": "compare"}) == ["repo_id: missing, and compare requires it."]
    assert problems({"mode": "compare", "candidates": "a"})[0].startswith("--candidates: 'a': value should have at least 2")
    assert problems({"mode": "compare", "candidates": "a, a"})[0].startswith("--candidates: 'a, a': contains duplicates: a")
    assert load_inputs({"mode": "compare", "candidates": "a,b/c@v1"}).candidates == ["a", "b/c@v1"]


def test_off_in_yaml_is_the_string_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without quotes YAML reads it as false."""
    monkeypatch.chdir(tmp_path)
    Path("inputs.yml").write_text("mode: pull\nrepo_id: a/b\nverify: off\nsign: off\n")
    (inputs,) = load_models({"config": "inputs.yml"}).values()
    assert (inputs.verify, inputs.sign) == ("off", "off")


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        ({"mode": "train"}, TrainInputs),
        ({"mode": "deploy", "repo_id": "a/b"}, DeployInputs),
        ({"mode": "cycle", "repo_id": "a/b"}, CycleInputs),
        ({"mode": "pull", "repo_id": "a/b"}, PullInputs),
        ({"mode": "pull", "checkpoint": "a.pt"}, ImportInputs),
        ({"mode": "compare", "repo_id": "a/b"}, CompareInputs),
        ({"mode": "compare", "repo_id": "a/b", "pull_requests": "open"}, ReviewInputs),
    ],
)
def test_each_mode_has_a_type_that_requires_what_the_mode_requires(flags: dict[str, Any], kind: type[Inputs]) -> None:
    assert type(load_inputs(flags)) is kind
    for name in flags:
        if kind.model_fields[name].is_required() and name not in ("mode", "pull_requests", "checkpoint"):
            assert problems({key: value for key, value in flags.items() if key != name})


def test_compare_defaults_to_the_published_model_and_the_best_checkpoint() -> None:
    flags = {"mode": "compare", "repo_id": "a/b"}
    assert load_inputs(flags).candidates == ["a/b", "echoself-model"]
    assert load_inputs({**flags, "revision": "v1", "output_dir": "out"}).candidates == ["a/b@v1", "out"]
