"""GPT-2 checkpoints in every layout: imported exactly, or refused with what is missing or contradictory."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from echoself_action.checkpoint.model_folder import ModelFolder
from echoself_action.errors import CheckpointError
from echoself_action.formats.gpt2_tensors import transposed
from echoself_action.formats.import_checkpoint import import_checkpoint
from echoself_action.formats.imported_model import Given

from .foreign_files import LAYOUTS, SIZES, declares_heads, gpt2_weights, of_layout, save

LINEAR = gpt2_weights(linear=True)
RAW = "a state dict and nothing else"


def imported(content: object, tmp_path: Path, n_head: int | None = None) -> ModelFolder:
    return import_checkpoint(save(content, tmp_path / "model.pt"), tmp_path / "out", None, print, Given(n_head))


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("linear", [True, False], ids=["nn.Linear", "Conv1D"])
def test_every_layout_imports_all_weights_and_remarks_on_assumptions(tmp_path: Path, name: str, linear: bool) -> None:
    weights = gpt2_weights(linear=linear)
    folder = imported(of_layout(name, weights), tmp_path, None if declares_heads(name) else 2)
    stored = load_file(folder.path / "model.safetensors")
    plain = transposed(stored) if linear else stored
    assert all(plain[key].numpy().tobytes() == weights[key].numpy().tobytes() for key in plain)
    assert plain.keys() == weights.keys() - {"lm_head.weight"}
    assert json.loads((folder.path / "config.json").read_text())["activation_function"] == ("gelu" if linear else "gelu_new")
    facts = folder.metadata
    assert facts
    assert facts.imported_from
    assert facts.parity
    assert (facts.parity.tensors, facts.parity.argmax_agreement) == (28, 1)
    assert facts.parity.max_abs_diff <= 1e-5
    expected = 0 if "epochs" in name or name in (RAW, "NanEcho fallback export") else 7
    assert folder.step == expected
    remarks = "\n".join(facts.imported_from.remarks)
    assert ("count from 0" in remarks) == (expected == 0)
    assert ("n_head=2 was given" in remarks) == (not declares_heads(name))
    assert f"{'the exact GELU (gelu)' if linear else 'the tanh approximation of GELU (gelu_new)'}" in remarks
    assert not folder.has_training_state


def test_losses_keep_their_meaning(tmp_path: Path) -> None:
    facts = imported(of_layout("NanEcho cache", LINEAR), tmp_path).metadata
    assert facts
    assert facts.imported_from
    assert (facts.imported_from.train_loss, facts.imported_from.val_loss) == (1.75, 2.5)
    assert (facts.train_loss, facts.val_loss, facts.best_val_loss) == (None, None, None)


def test_logits_equal_those_of_transformers(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=64, n_positions=16, n_embd=16, n_layer=2, n_head=4, layer_norm_epsilon=1e-3)
    stock: Any = GPT2LMHeadModel(config).eval()
    torch.save(stock.state_dict(), tmp_path / "model.pt")
    config.save_pretrained(tmp_path)
    folder = import_checkpoint(tmp_path / "model.pt", tmp_path / "out", None, print)
    ids = torch.arange(16)[None]
    again: Any = AutoModelForCausalLM.from_pretrained(folder.path)
    with torch.no_grad():
        assert torch.equal(again.eval()(ids).logits, stock(ids).logits)


def test_a_file_without_n_head_is_refused_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not record the number of attention heads") as caught:
        imported(LINEAR, tmp_path)
    assert "Give n_head" in caught.value.hint
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["config.json", "model_config.json", "training_metadata.json"])
def test_n_head_is_read_from_a_json_beside_the_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(json.dumps({"n_head": 4, "n_embd": 16, "n_positions": 16}))
    folder = imported(LINEAR, tmp_path)
    assert folder.metadata
    assert folder.metadata.imported_from
    assert (folder.config.n_head, folder.config.activation) == (4, "gelu")  # type: ignore[union-attr]
    assert f"n_head=4 is from {name} beside it" in folder.metadata.imported_from.remarks[0]


def test_the_input_n_head_overrides_a_json_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"n_head": 4}))
    assert imported(LINEAR, tmp_path).config.n_head == 4
    assert imported(LINEAR, tmp_path, 2).config.n_head == 2  # and the import before is not taken for this one


def changed(**changes: object) -> dict[str, Any]:
    return of_layout("echoself pull", LINEAR) | {"config": SIZES | changes}


def without(name: str) -> dict[str, Any]:
    return changed() | {"model": {key: tensor for key, tensor in LINEAR.items() if not key.endswith(name)}}


def replaced(name: str, tensor: torch.Tensor) -> dict[str, Any]:
    return changed() | {"model": LINEAR | {name: tensor}}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "n_layer": (changed(n_layer=3), "contradicts its config: recorded n_layer=3, but its tensors have n_layer=2"),
    "n_embd": (changed(n_embd=32), "recorded n_embd=32, but its tensors have n_embd=16"),
    "vocab_size": (changed(vocab_size=65), "recorded vocab_size=65, but its tensors have vocab_size=64"),
    "block_size": (changed(block_size=8, n_positions=8), "recorded block_size=8, but its tensors have block_size=16"),
    "n_head": (changed(n_head=3), "has n_embd=16, which is not divisible by n_head=3"),
    "bias": (changed(bias=False), "records bias=False in its config, but has biases"),
    "activation": (changed(activation_function="relu"), "that change what a GPT-2 computes: activation_function='relu'"),
    "dropout": (changed(dropout=2.0), "has an invalid dropout (2.0)"),
    "arithmetic": (
        changed(model_type="gpt2", scale_attn_by_inverse_layer_idx=True),
        "that change what a GPT-2 computes: scale_attn_by_inverse_layer_idx=True",
    ),
    "two places": (
        {"model": LINEAR, "config": SIZES, "metadata": {"model_config": {"n_head": 4}}},
        "contradicts itself: n_head=2 in its config, n_head=4 in its metadata",
    ),
    "an untied head": (replaced("lm_head.weight", torch.ones(64, 16)), "that differs from its transformer.wte.weight"),
    "NaN": (replaced("transformer.ln_f.bias", torch.full((16,), torch.nan)), "ln_f.bias contains NaN or infinity"),
    "a missing tensor": (without("h.1.mlp.c_fc.bias"), "h.1.mlp.c_fc.bias is missing"),
    "a missing block": (
        changed() | {"model": {key.replace("h.1.", "h.4."): tensor for key, tensor in LINEAR.items()}},
        "has tensors of the blocks [0, 4]",
    ),
    "no positions": (without("wpe.weight"), "which every GPT-2 has"),
    "another tensor": (replaced("transformer.extra", torch.ones(1)), "transformer.extra is not a tensor of this model"),
    "one matrix the other way": (
        replaced("transformer.h.1.mlp.c_fc.weight", torch.ones(16, 64)),
        "has the shape (16, 64), expected (64, 16)",
    ),
    "no orientation": (replaced("transformer.h.0.attn.c_attn.weight", torch.ones(32, 16)), "expected (n_embd, 3 * n_embd)"),
    "a step": (changed() | {"step": -4}, "a step that is not a valid step count"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_contradictions_are_refused_and_both_values_named(tmp_path: Path, what: str) -> None:
    content, why = REFUSED[what]
    with pytest.raises(CheckpointError) as caught:
        imported(content, tmp_path)
    assert why in caught.value.message
    assert not (tmp_path / "out").exists()


def test_an_input_n_head_that_contradicts_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"records n_head=2 in its config, but n_head: 4 was given"):
        imported(changed(), tmp_path, 4)


@pytest.mark.parametrize("name", LAYOUTS)
def test_tensors_of_an_unknown_model_are_named(tmp_path: Path, name: str) -> None:
    weights = {"encoder.layers.0.weight": torch.ones(2, 2), "head.weight": torch.ones(2)}
    with pytest.raises(CheckpointError, match=r"those of a recognised model: 'encoder\.layers\.0\.weight', 'head\.weight'"):
        imported(of_layout(name, weights), tmp_path)


class ConfigManager:
    """An object of a class of its own, as netrain pickles it."""

    def __init__(self) -> None:
        self.values = {"n_head": 2}


def test_the_pickled_config_object_of_netrain_is_read(tmp_path: Path) -> None:
    content = of_layout("netrain", LINEAR) | {"config": ConfigManager()}
    assert imported(content, tmp_path).config.n_head == 2
