"""Untrusted NanEcho folders: an invalid config.json is refused, and code files are never run."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from echoself_action.__main__ import main
from echoself_action.checkpoint.model_folder import ModelFolder, read_model_folder, same_model
from echoself_action.checkpoint.weights import load_model
from echoself_action.corpus.tokens import Tokens
from echoself_action.errors import CheckpointError
from echoself_action.evaluation.parity import check_parity
from echoself_action.model.nanecho import NanEchoConfig
from echoself_action.training.init_or_resume import new_run
from echoself_action.training.run import Data

from ..conftest import training_settings


@pytest.fixture(scope="module")
def saved(tokens: Tokens, tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    config = NanEchoConfig(vocab_size=257, n_embd=16, n_head=2, n_layer=4, block_size=16)
    return new_run(config, Data(tokens, []), training_settings()).snapshot(tmp_path_factory.mktemp("nanecho"), {}).write()


@pytest.fixture
def folder(saved: ModelFolder, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved.path, tmp_path / "checkpoint-0"))


def change_config(folder: Path, **values: Any) -> None:
    config = json.loads((folder / "config.json").read_text()) | values
    (folder / "config.json").write_text(json.dumps(config))


WRONG: list[tuple[dict[str, Any], str]] = [
    *(
        ({name: 0}, f"{name}=0: input should be greater")
        for name in ("n_layer", "n_head", "n_embd", "block_size", "vocab_size")
    ),
    ({"n_layer": -1}, "n_layer=-1"),
    ({"n_layer": 10**6}, "describes a model of"),
    ({"n_embd": 10**12}, "n_embd=1000000000000: input should be less"),
    ({"n_embd": "16"}, "n_embd=16: input should be a valid integer"),
    ({"n_embd": None}, "n_embd=None"),
    ({"n_embd": 18, "n_head": 2}, "n_embd=18 not divisible by 4, the number of heads"),
    ({"n_head": 3}, "n_embd=16 not divisible by n_head=3"),
    ({"n_embd": 32}, "does not match its config.json"),
    ({"n_layer": True}, "n_layer=True"),
    ({"n_layer": 4.0}, "n_layer=4.0"),
    ({"dropout": "none"}, "dropout=none"),
    ({"dropout": float("nan")}, "dropout=nan"),
    ({"legacy": "yes"}, "legacy=yes"),
    ({"current_iteration": -1}, "current_iteration=-1"),
    ({"recursion_growth_steps": 0}, "recursion_growth_steps=0"),
    ({"max_recursion_depth": 0}, "max_recursion_depth=0"),
    ({"max_recursion_depth": 10**6}, "describes a model of"),
    ({"min_recursion_depth": 6}, "min_recursion_depth=6 above max_recursion_depth=5"),
    ({"max_connections": 0.01}, "initial_connections=0.1 above max_connections=0.01"),
    ({"persona_dimensions": 5, "dimension_weights": None}, "is not a valid NanEcho config"),
    ({"persona_dimensions": "calm"}, "persona_dimensions=calm: input should be a valid list"),
    ({"persona_dimensions": []}, "persona_dimensions=\\[\\]"),
    ({"persona_dimensions": ["a.b"]}, "persona_dimensions=a.b"),
    ({"persona_dimensions": ["forward"]}, "taken in PyTorch's modules"),
    ({"persona_dimensions": ["calm", "calm"]}, "contains duplicates: calm"),
    ({"persona_dimensions": ["calm"]}, "does not match its config.json"),
    ({"dimension_weights": {"cognitive": "much"}}, "dimension_weights=much"),
    ({"dimension_weights": [1]}, "dimension_weights="),
    ({"tie_word_embeddings": True}, "tie_word_embeddings=True"),
    ({"eos_token_id": "end"}, "eos_token_id=end"),
    ({"auto_map": None}, "makes transformers run code that is not NanEcho's"),
    ({"auto_map": {}}, "makes transformers run code that is not NanEcho's"),
    ({"auto_map": {"AutoConfig": "configuration_other.Config"}}, "makes transformers run code that is not NanEcho's"),
    (
        {"auto_map": {"AutoModelForCausalLM": "somebody/else--modeling_nanecho.NanEchoForCausalLM"}},
        "run code that is not NanEcho's",
    ),
    ({"attn_implementation": "somebody/kernels"}, "run code that is not NanEcho's: attn_implementation='somebody/kernels'"),
    ({"model_type": ["nanecho"]}, "model_type="),
]


@pytest.mark.parametrize(("values", "reason"), WRONG, ids=lambda value: str(value)[:50])
def test_an_invalid_config_is_refused_with_the_reason(folder: Path, values: dict[str, Any], reason: str) -> None:
    change_config(folder, **values)
    with pytest.raises(CheckpointError, match=reason):
        read_model_folder(folder)


@pytest.mark.parametrize("name", ["n_head", "vocab_size"])
def test_a_missing_size_is_refused(folder: Path, name: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    del config[name]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=f"has no {name}, which a NanEcho model needs"):
        read_model_folder(folder)


@pytest.mark.parametrize("auto_map", [None, "modeling_nanecho.Other", "configuration_other.Config"])
def test_code_files_in_a_folder_are_never_run(folder: Path, tmp_path: Path, auto_map: str | None) -> None:
    canary = tmp_path / "ran"
    for name in ("modeling_nanecho.py", "configuration_other.py", "tokenization_other.py", "__init__.py"):
        (folder / name).write_text(f"open({str(canary)!r}, 'w')\n")
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    tokenizer["auto_map"] = {"AutoTokenizer": ["tokenization_other.Tokenizer", None]}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    if auto_map:
        change_config(folder, auto_map={"AutoConfig": auto_map, "AutoModelForCausalLM": auto_map})
    else:
        assert check_parity(read_model_folder(folder)).max_abs_diff <= 1e-4
    words = ["pull", "--checkpoint", str(folder), "--output-dir", str(tmp_path / "out")]
    assert main(words) == (3 if auto_map else 0)
    assert not canary.exists()


def test_config_and_weights_round_trip(saved: ModelFolder) -> None:
    read = read_model_folder(saved.path)
    assert same_model(read.config, saved.config)
    assert not same_model(read.config, saved.config.with_dropout(0.5))
    state = load_model(read).state_dict()
    stored = load_file(saved.path / "model.safetensors")
    assert stored.keys() == state.keys()
    assert all((stored[name] == state[name]).all() for name in state)
