"""NanEcho through the front door: imported, published, loaded by transformers, pulled, trained on, and handed back."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from echoself_action.__main__ import main
from echoself_action.checkpoint.foreign.nanecho import read_nanecho
from echoself_action.checkpoint.foreign.reader import read_foreign
from echoself_action.hub.sections import has_sections

from ..checkpoint.nanecho_files import load

REPO = "me/echo"
FIXTURES = ("train_nanecho_best_model", "best_model_export", "cache/checkpoints/ckpt_20261124_035214_40_dca8f64e_44a379d7")


def echoself(*words: object) -> int:
    return main([str(word) for word in words])


@pytest.mark.parametrize("name", FIXTURES)
def test_a_foreign_model_is_published_loaded_pulled_and_handed_back_bit_by_bit(shared: Path, name: str, tmp_path: Path) -> None:
    path, hub = shared / f"fixtures/nanecho/{name}.pt", ("--repo-id", REPO, "--hub", tmp_path / "hub")
    assert echoself("deploy", "--checkpoint", path, "--output-dir", tmp_path / "a", *hub) == 0
    arguments = ("pull", *hub, "--output-dir", tmp_path / "b", "--formats", "nanecho")
    assert echoself(*arguments) == 0
    pulled = tmp_path / "b/checkpoint-40"
    stock = AutoModelForCausalLM.from_pretrained(pulled, trust_remote_code=True).eval()
    source = read_nanecho(read_foreign(path))
    tokens = torch.from_numpy(np.load(path.with_suffix(".input_ids.npy")))
    for iteration in (0, 10000):
        stock.config.current_iteration = source.config.current_iteration = iteration  # type: ignore[union-attr]
        expected = torch.from_numpy(np.load(path.with_suffix(f".logits_noinject_iter{iteration}.npy")))
        with torch.no_grad():
            assert (stock(tokens).logits - expected).abs().max() <= 1e-4
    back = next((tmp_path / "b/nanecho/cache/checkpoints").glob("*.pt"))
    before = load(path)["model_state_dict"]
    after = torch.load(back, weights_only=True)["model_state_dict"]
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    card = (pulled / "README.md").read_text()
    assert has_sections(card)
    assert "trust_remote_code=True" in card
    assert "token after the next" in card


def test_code_on_the_hub_is_replaced_by_our_own_and_never_run(shared: Path, tmp_path: Path) -> None:
    path, hub = shared / f"fixtures/nanecho/{FIXTURES[0]}.pt", ("--repo-id", REPO, "--hub", tmp_path / "hub")
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


def test_a_new_causal_nanecho_is_trained_published_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for number in range(20):
        (tmp_path / f"data/{number}.md").write_text(f"The echo number {number} answers itself. " * 40)
    where = ("--repo-id", REPO, "--hub", tmp_path / "hub", "--output-dir", tmp_path / "out")
    sizes = ("--n-layer", 4, "--n-head", 2, "--n-embd", 16, "--block-size", 16, "--batch-size", 4, "--tokenizer", "bytes")
    steps = ("--max-iters", 10, "--eval-interval", 5, "--checkpoint-interval", 5, "--data", tmp_path / "data/*.md")
    new = ("--architecture", "nanecho", "--persona-dimensions", "calm,curious")
    assert echoself("cycle", *where, *sizes, *steps, *new) == 0
    assert echoself("cycle", *where, "--batch-size", 4, *steps) == 0
    assert echoself("cycle", *where, *steps, "--architecture", "gpt2") == 2
    assert echoself("pull", *where[:4], "--output-dir", tmp_path / "b") == 0
    pulled = max((tmp_path / "b").glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]))
    stock = AutoModelForCausalLM.from_pretrained(pulled, trust_remote_code=True)
    assert stock.config.legacy is False
    assert list(stock.blocks[1].persona_dims) == ["calm", "curious"]
    assert stock.config.current_iteration > 10
    assert echoself("pull", *where[:4], "--output-dir", tmp_path / "c", "--formats", "nanecho") == 3
