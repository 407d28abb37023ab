"""The JSON schema of the YAML file: what it accepts is what the loader accepts.

The schema is applied to what a reader of YAML 1.2 makes of the file, as editors and check-jsonschema do it.
"""

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import ruamel.yaml
from pydantic import ValidationError

from echoself_action.config.inputs import DEFAULT_CONFIG, Inputs
from echoself_action.config.load import REFUSED_IN_FILE, load_models
from echoself_action.config.schema import SCHEMA_URL, file_schema, schema_text
from echoself_action.config.yaml_entries import read_entries
from echoself_action.errors import InputError

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docs/echoself.schema.json"
SCHEMA = file_schema()
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)
NAMES = [name for name in Inputs.model_fields if name not in REFUSED_IN_FILE]

# A good and a bad value of each input, and what the good one needs beside it.
VALUES: dict[str, tuple[str, str, str]] = {
    "mode": ("train", "trian", ""),
    "model": ("docs", "[docs]", "models: {docs: {seed: 1}}"),
    "repo_id": ("you/model", "model", ""),
    "revision": ("v1.0", "../x", ""),
    "hub": ("local", "{url: x}", ""),
    "checkpoint": ("a.pt", "[a.pt]", ""),
    "init_from": ("openai-community/gpt2", "{}", ""),
    "candidates": ("[a.pt, b.pt]", "[a.pt]", "mode: compare"),
    "pull_requests": ("7", "all", "mode: compare\nrepo_id: a/b"),
    "output_dir": ("out", "[out]", ""),
    "formats": ("[nanogpt, gguf]", "[ggml]", "mode: pull\nrepo_id: a/b"),
    "data": ('["**/*.md", "!a.md"]', "[]", ""),
    "val_fraction": ("0.5", "0.6", ""),
    "on_bad_file": ("skip", "ignore", ""),
    "text_column": ("body", "[body]", ""),
    "tokenizer": ("bpe:4096", "bert", ""),
    "preset": ("scheduled", "huge", ""),
    "architecture": ("nanecho", "llama", ""),
    "nanecho_paths": ("[adaptive_attention, recursive_reasoning]", "[recursion]", "architecture: nanecho"),
    "introspection": ("true", "perhaps", ""),
    "persona_dimensions": ("[calm, curious]", "[a b]", "architecture: nanecho"),
    "n_layer": ("6", "0", ""),
    "n_head": ("4", "-1", ""),
    "n_embd": ("64", "6.5", ""),
    "block_size": ('"256"', '"0"', ""),
    "dropout": ("0.1", "1", ""),
    "activation": ("gelu_new", "relu", ""),
    "bias": ("false", "2", ""),
    "max_iters": ("100", "many", ""),
    "max_minutes": ("7.5", "-1", ""),
    "batch_size": ("8", "[8]", ""),
    "gradient_accumulation": ("2", "0", ""),
    "optimizer": ("muon", "sgd", ""),
    "learning_rate": ("1e-3", "0", ""),
    "total_iters": ("100", "0", ""),
    "phases": ('[{name: a, share: 0.5, weights: {"*": 0}}, {name: b}]', "[{name: a, weight: 1}]", "max_iters: 9"),
    "curriculum_iters": ("9", "0", "phases: [{name: a}]"),
    "decay": ("0", "1.0", ""),
    "warmup": ("0", "-1", ""),
    "weight_decay": ('"0.1"', '"-0.1"', ""),
    "input_noise": (".5", "'1'", ""),
    "grad_clip": ("0", "none", ""),
    "seed": ("0", "-1", ""),
    "dtype": ("bfloat16", "float8", ""),
    "compile": ("true", "yes please", ""),
    "device": ("cpu", "tpu", ""),
    "processes": ("auto", "-1", ""),
    "sharding": ("none", "half", ""),
    "resume": ("must", "maybe", ""),
    "confirm_fresh_start": ("true", "I CONFIRM FRESH START", ""),
    "eval_interval": ("10", "0", ""),
    "eval_tokens": ("0", "-1", ""),
    "evaluate": ('["asked/*.jsonl", held-out]', "{a: b}", ""),
    "evaluate_questions": ("0", "-1", ""),
    "evaluate_gate": ("accuracy=0.6", "accuracy=60", "mode: deploy\nrepo_id: a/b\nevaluate: held-out"),
    "checkpoint_interval": ("10", "0", ""),
    "checkpoint_minutes": ("0", "-1", ""),
    "early_stopping": ("0.01", "-0.01", ""),
    "patience": ("0", "0.5", ""),
    "force": ("on", "force", ""),
    "log_interval": ("1", "'x'", ""),
    "keep_checkpoints": ("1", "0", ""),
    "gate": ("not_worse=0.01", "better", ""),
    "gate_fails_job": ("yes", "3", ""),
    "upload_training_state": ("off", "never", ""),
    "upload_datasets": ("true", "[true]", ""),
    "dataset_repo_id": ("you/text", "you/a--b", ""),
    "dataset_layout": ("folder", "zip", ""),
    "demo": ("true", "page", ""),
    "demo_repo_id": ("you/page", "you/a--b", ""),
    "promote": ("better", "always", ""),
    "tag": ("1.0", "-1", ""),
    "create_release": ("True", "maybe", ""),
    "private": ("1", "secret", ""),
    "license": ("cc-by-4.0", "MIT License", ""),
    "license_name": ("mine-1.0", "Mine", "license: other"),
    "license_link": ("LICENSE", "ftp://x", "license: other"),
    "language": ("[en, pt-BR, no]", "[english]", ""),
    "card": ("card.md", "[card.md]", ""),
    "create_pr": ("n", "none", ""),
    "comment": ("true", "always", ""),
    "sign": ("off", "[off]", ""),
    "verify": ("off", "no", ""),
    "signer": ("https://github.com/o/r/.github/workflows/f.yml@refs/heads/main", "[a]", ""),
    "dry_run": ("true", "-1", ""),
}

# Forms that YAML has for values of any input. Left out is a number in another notation: JSON Schema sees 1000 for `1e3` and 1
# for `1.0`, and load.py the text.
ANY_VALUE = [
    "1", "0", "-1", "7", "1.5", "0.5", "0.51", "0.05", "-0.5", "1e-3", "'6'", "'0.1'", "'1e-1'", "'-1'", "'+1'", "'1_000'",
    "", "''", "'x'", "null", "~", "true", "false", "True", "off", "on", "yes", "no", "'off'", "'true'", "'1'", "auto", "none",
    "a/b", "a", "[a, b]", "[a]", "[]", "[1, 2]", "[a, a]", "[[a]]", "[~]", "['']", "{a: 1}", "a, b", "x y", "2024-01-31", "é",
    '"a\\0b"', '"a\\nb"', "','", "!!str 5", "en", "[en, de]", "en, de", "pt-BR", "mit", "gpt2", "nanogpt", "'nanogpt, nanecho'",
    "open", "/a/b", "bpe:512", "never", "x.json", "improved", "not_worse=0.1", "https://x/y", "LICENSE", "gelu", "full",
    "float32", "muon", "docs", "a" * 300, "x/" * 2100, "[{name: a}]", "[{name: a, weights: {b: x}}]", "[{}]",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".github").mkdir()


def schema_accepts(text: str) -> bool:
    return VALIDATOR.is_valid(json.loads(json.dumps(ruamel.yaml.YAML(typ="safe", pure=True).load(text), default=str)))


def problems(text: str) -> list[str]:
    Path(DEFAULT_CONFIG).write_text(text, encoding="utf-8")
    try:
        load_models({})
    except InputError as error:
        return [problem.message for problem in error.problems]
    return []


def test_the_committed_schema_is_that_of_the_table() -> None:
    assert FILE.read_text(encoding="utf-8") == schema_text(), "run ./run docs"
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert SCHEMA_URL.endswith(str(FILE.relative_to(ROOT)))


def test_the_schema_has_every_input_with_its_help_and_nothing_that_the_file_refuses() -> None:
    assert list(SCHEMA["properties"]) == [*NAMES, "models"]
    assert not set(SCHEMA["properties"]) & set(REFUSED_IN_FILE)
    for name in NAMES:
        assert SCHEMA["definitions"][name]["description"].startswith(Inputs.model_fields[name].description)


@pytest.mark.parametrize("name", NAMES)
def test_a_good_and_a_bad_value_of_each_input(name: str) -> None:
    good, bad, beside = VALUES[name]
    for value, expected in ((good, True), (bad, False)):
        for text, place in (
            (f"{name}: {value}\n{beside}\n", f"{name} in"),
            (f"models:\n  m:\n    {name}: {value}\n{beside}\n", f"{name} of"),
        ):
            if place.endswith("of") and (name in ("mode", "model") or "model" in beside):
                continue  # one for all models
            text = text if "mode: " in text else f"mode: train\n{text}"
            found = [problem for problem in problems(text) if problem.startswith(place)]
            assert (not found, schema_accepts(text)) == (expected, expected), (text, found)


def test_schema_and_loader_accept_the_same_values() -> None:
    """Each kind of input, by its schema, with values of every form."""
    kinds = {json.dumps(SCHEMA["definitions"][name]["anyOf"]): name for name in NAMES}
    assert len(kinds) > 20
    differ = []
    for name in kinds.values():
        for value in ANY_VALUE:
            text = f"{name}: {value}\n"
            entries = read_entries(text)
            accepted = not entries.problems and not entries.mappings
            try:
                Inputs(**{"mode": "train", **entries.values})  # type: ignore[arg-type]
            except ValidationError:
                accepted = False
            if accepted != schema_accepts(text):
                differ.append(text)
    # it stands for the text "true", which JSON Schema can't tell from the boolean True
    assert differ == ["license_name: true\n", "license_name: false\n"]


WRONG = [
    "n_layers: 6\n",
    "n_layer: six\n",
    "preset: huge\nn_layer: 6\n",
    "hf_token: hf_abc\n",
    "runtime: host\n",
    "settings: 'n_layer: 6'\n",
    "config: other.yml\n",
    "- repo_id: you/model\n",
    "models: [docs, code]\n",
    "models: {docs: {mode: train}}\n",
    "models: {docs: {n_layer: 0}}\n",
    "models: {a/b: {n_layer: 1}}\n",
    "models: {}\n",
    "data: {glob: a.md}\n",
]


def test_wrong_files_are_refused_by_check_jsonschema_and_by_the_loader() -> None:
    names = []
    for number, text in enumerate(WRONG):
        names.append(f"wrong-{number}.yml")
        Path(names[-1]).write_text(text)
        assert problems(f"mode: train\n{text}" if text[0] != "-" else text), text
    command = [Path(sys.executable).with_name("check-jsonschema"), "--schemafile", FILE, "--output-format", "json"]
    ended = subprocess.run([*command, *names], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert {error["filename"] for error in json.loads(ended.stdout)["errors"]} == set(names)


def test_models_and_empty_files_are_accepted() -> None:
    examples = [
        (ROOT / f"examples/{name}.yml").read_text(encoding="utf-8") for name in ("models/echoself", "echoself/settings")
    ]
    for text in ("", "# nothing\n", "models:\n", "models: {docs: , code: {seed: 1}}\n", *examples):
        assert schema_accepts(text), text
        assert not [problem for problem in problems(f"mode: train\n{text}") if "mode" not in problem], text


def test_the_documentation_names_the_schema() -> None:
    text = (ROOT / "docs/inputs.md").read_text(encoding="utf-8")
    assert f"# yaml-language-server: $schema={SCHEMA_URL}\n" in text


def test_every_value_is_tested() -> None:
    assert set(VALUES) == set(NAMES)
