"""NanEcho by the command line: its card, which code is run, and a new model that is trained, published and resumed."""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from transformers import AutoModelForCausalLM

from echoself_action.__main__ import main
from echoself_action.checkpoint.model_folder import read_model_folder
from echoself_action.hub.cards.sections import has_sections
from echoself_action.hub.history import read_history

from ..formats.foreign_files import save
from ..formats.nanecho_files import nanecho_checkpoint, state_dict

REPO = "me/echo"


def echoself(*words: object) -> int:
    return main([str(word) for word in words])


def test_the_card_documents_how_nanecho_is_loaded_and_what_it_predicts(tmp_path: Path) -> None:
    path, hub = (
        save(nanecho_checkpoint("cache", state_dict()), tmp_path / "a.pt"),
        ("--repo-id", REPO, "--hub", tmp_path / "hub"),
    )
    assert echoself("deploy", "--checkpoint", path, "--output-dir", tmp_path / "a", *hub) == 0
    assert echoself("pull", *hub, "--output-dir", tmp_path / "b") == 0
    card = (tmp_path / "b/checkpoint-40/README.md").read_text()
    assert has_sections(card)
    assert "trust_remote_code=True" in card
    assert "token after the next" in card


def test_code_on_the_hub_is_replaced_and_never_run(tmp_path: Path) -> None:
    path, hub = (
        save(nanecho_checkpoint("cache", state_dict()), tmp_path / "a.pt"),
        ("--repo-id", REPO, "--hub", tmp_path / "hub"),
    )
    assert echoself("pull", "--checkpoint", path, "--output-dir", tmp_path / "a") == 0
    folder = tmp_path / "a/checkpoint-40"
    own = (folder / "modeling_nanecho.py").read_bytes()
    (folder / "modeling_nanecho.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    assert echoself("deploy", "--checkpoint", folder, *hub) == 0
    assert echoself("pull", *hub, "--output-dir", tmp_path / "b") == 0
    assert (tmp_path / "b/checkpoint-40/modeling_nanecho.py").read_bytes() == own
    assert not (tmp_path / "ran").exists()
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"]["AutoConfig"] = "somebody/else--code.Config"
    (folder / "config.json").write_text(json.dumps(config))
    assert echoself("deploy", "--checkpoint", folder, *hub) == 3


def test_a_new_causal_nanecho_is_trained_published_and_resumed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for number in range(20):
        (tmp_path / f"data/{number}.md").write_text(f"The echo number {number} answers itself. " * 40)
    where = ("--repo-id", REPO, "--hub", tmp_path / "hub", "--output-dir", tmp_path / "out")
    sizes = ("--n-layer", 4, "--n-head", 2, "--n-embd", 16, "--block-size", 16, "--batch-size", 4, "--tokenizer", "bytes")
    steps: tuple[object, ...] = ("--preset", "ci", "--max-iters", 10, "--eval-interval", 5, "--checkpoint-interval", 5)
    steps += ("--data", tmp_path / "data/*.md")
    new = ("--architecture", "nanecho", "--persona-dimensions", "calm,curious")
    assert echoself("cycle", *where, *sizes, *steps, *new) == 0
    assert echoself("cycle", *where, "--batch-size", 4, *steps) == 0
    assert echoself("cycle", *where, *steps, "--architecture", "gpt2") == 2
    assert echoself("pull", *where[:4], "--output-dir", tmp_path / "b") == 0
    pulled = max((tmp_path / "b").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    stock = AutoModelForCausalLM.from_pretrained(pulled, trust_remote_code=True)
    assert stock.config.legacy is False
    assert list(stock.blocks[1].persona_dims) == ["calm", "curious"]
    assert stock.config.current_iteration > 10
    inside = read_model_folder(pulled).metadata.introspection  # type: ignore[union-attr]
    assert inside
    assert [one.path for one in inside.ablations if "." in one.path] == [
        "persona_dimensions.calm",
        "persona_dimensions.curious",
    ]
    assert "### Inside the model" in (pulled / "README.md").read_text()
    assert inside.mean_entropy == read_history(pulled).entries[-1].attention_entropy
    assert echoself("pull", *where[:4], "--output-dir", tmp_path / "c", "--formats", "nanecho") == 3


def test_a_new_nanecho_has_the_paths_that_are_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.md").write_text("\n\n".join(f"The echo number {number} answers itself." for number in range(200)))
    common = (
        "--output-dir",
        tmp_path / "out",
        "--data",
        tmp_path / "a.md",
        "--batch-size",
        4,
        "--max-iters",
        3,
        "--preset",
        "ci",
    )
    sizes = ("--n-layer", 4, "--n-head", 2, "--n-embd", 16, "--block-size", 16, "--tokenizer", "bytes", "--val-fraction", 0.5)
    new = ("--architecture", "nanecho", "--nanecho-paths")
    assert echoself("train", *common, *sizes, *new, "hypergraph_patterns,recursive_reasoning", "--introspection", "false") == 0
    folder = read_model_folder(tmp_path / "out/checkpoint-3-decayed")
    config: Any = folder.config
    assert [config.enable_adaptive_attention, config.enable_persona_dimensions] == [False, False]
    assert [config.enable_recursive_reasoning, config.enable_hypergraph_patterns] == [True, True]
    with safe_open(folder.path / "model.safetensors", "numpy") as file:
        names = list(file.keys())
    assert not [name for name in names if "persona" in name]
    assert folder.metadata
    assert folder.metadata.introspection is None
    assert echoself("train", *common, *new, "recursive_reasoning,hypergraph_patterns") == 0  # in any order
    resumed = read_model_folder(tmp_path / "out/checkpoint-5-decayed").metadata
    assert resumed
    assert resumed.introspection
    assert [one.path for one in resumed.introspection.ablations] == ["recursive_reasoning", "hypergraph_patterns"]
    capsys.readouterr()
    assert echoself("train", *common, *new, "none") == 2
    assert "nanecho_paths is none, and the checkpoint has recursive_reasoning, hypergraph_patterns" in capsys.readouterr().err
