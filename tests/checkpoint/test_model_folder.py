import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GPT2LMHeadModel
from transformers import GPT2Config as StockConfig

from echoself_action.checkpoint.gpt2_config import shapes
from echoself_action.checkpoint.model_folder import ModelFolder, check_weights, read_model_folder, same_model
from echoself_action.checkpoint.weights import load_model, write_model
from echoself_action.errors import CheckpointError
from echoself_action.model.gpt2 import GPT2, GPT2Config


@pytest.mark.parametrize("bias", [True, False])
def test_expected_shapes_are_those_of_the_model(small_config: GPT2Config, bias: bool) -> None:
    config = replace(small_config, bias=bias)
    assert list(shapes(config).items()) == [(name, tuple(one.shape)) for name, one in GPT2(config).state_dict().items()]


def test_stock_transformers_loads_all_tensors_and_computes_the_same_logits(model_folder: ModelFolder) -> None:
    stock: Any
    stock, info = AutoModelForCausalLM.from_pretrained(model_folder.path, output_loading_info=True)
    assert not any(info.values())
    ids = torch.arange(20)[None]
    with torch.no_grad():
        torch.testing.assert_close(load_model(model_folder).eval()(ids), stock.eval()(ids).logits, atol=1e-5, rtol=0)
    tokenizer = AutoTokenizer.from_pretrained(model_folder.path)
    assert stock.config.eos_token_id == stock.config.bos_token_id == tokenizer.eos_token_id == 256
    assert stock.generation_config.eos_token_id == 256


def test_config_and_tensors_equal_those_that_transformers_saves(model_folder: ModelFolder, tmp_path: Path) -> None:
    stock: Any = AutoModelForCausalLM.from_pretrained(model_folder.path)
    stock.save_pretrained(tmp_path / "theirs")
    theirs = load_file(tmp_path / "theirs/model.safetensors")
    ours = load_file(model_folder.path / "model.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    written = json.loads((model_folder.path / "config.json").read_text())
    saved = json.loads((tmp_path / "theirs/config.json").read_text())
    assert {name: value for name, value in saved.items() if name in written} == {
        name: value for name, value in written.items() if name in saved
    }


def test_a_model_without_biases_loads_in_stock_transformers_and_round_trips(
    small_config: GPT2Config, model_folder: ModelFolder
) -> None:
    config = replace(small_config, bias=False)
    model = GPT2(config)
    model.initialise(3)
    write_model(model_folder.path, config, model.state_dict(), 256)
    read = read_model_folder(model_folder.path)
    assert read.config == config
    loaded = load_model(read).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in model.state_dict().items())
    stock: Any
    stock, info = AutoModelForCausalLM.from_pretrained(model_folder.path, output_loading_info=True)
    assert not any(info.values())
    ids = torch.arange(20)[None]
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(ids), stock.eval()(ids).logits, atol=1e-5, rtol=0)


def test_llama_cpps_converter_finds_the_context(model_folder: ModelFolder) -> None:
    """It reads `n_ctx` of what AutoConfig loads. A folder of an earlier version, without it, is the same model."""
    assert AutoConfig.from_pretrained(model_folder.path).to_dict()["n_ctx"] == model_folder.config.block_size
    path = model_folder.path / "config.json"
    older = json.loads(path.read_bytes())
    del older["n_ctx"]
    path.write_text(json.dumps(older))
    assert same_model(read_model_folder(model_folder.path).config, model_folder.config)


def test_a_folder_saved_by_transformers_is_read(model_folder: ModelFolder) -> None:
    stock = GPT2LMHeadModel(StockConfig(vocab_size=257, n_positions=16, n_embd=8, n_layer=1, n_head=1, bos_token_id=256))
    stock.save_pretrained(model_folder.path)
    ids = torch.arange(10)[None]
    with torch.no_grad():
        ours = load_model(read_model_folder(model_folder.path)).eval()(ids)
        torch.testing.assert_close(ours, stock.eval()(ids).logits, atol=1e-5, rtol=0)


def test_openais_older_tensor_names_and_mask_buffers_are_read(model_folder: ModelFolder) -> None:
    weights = load_file(model_folder.path / "model.safetensors")
    older = {name.removeprefix("transformer."): tensor for name, tensor in weights.items()}
    older["h.0.attn.bias"] = torch.ones(1, 1, 32, 32)
    save_file(older, model_folder.path / "model.safetensors")
    loaded = load_model(read_model_folder(model_folder.path)).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in weights.items())


def drop_a_tensor(path: Path) -> None:
    weights = load_file(path / "model.safetensors")
    del weights["transformer.h.1.mlp.c_fc.weight"]
    save_file(weights, path / "model.safetensors")


def transpose_a_tensor(path: Path) -> None:
    weights = load_file(path / "model.safetensors")
    weights["transformer.h.0.mlp.c_fc.weight"] = weights["transformer.h.0.mlp.c_fc.weight"].t().contiguous()
    save_file(weights, path / "model.safetensors")


def add_a_tensor(path: Path) -> None:
    save_file(load_file(path / "model.safetensors") | {"other": torch.ones(1)}, path / "model.safetensors")


def cut_the_file(path: Path) -> None:
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])


def change_config(**values: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        config = json.loads((path / "config.json").read_text()) | values
        (path / "config.json").write_text(json.dumps(config))

    return change


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (drop_a_tensor, "transformer.h.1.mlp.c_fc.weight is missing"),
        (transpose_a_tensor, r"c_fc.weight has shape \[64, 16\], expected \[16, 64\]"),
        (add_a_tensor, "transformer.other is not a tensor of this model"),
        (cut_the_file, "can't be read"),
        (change_config(n_layer=3), "transformer.h.2"),
        (change_config(n_head=3), "n_embd=16 not divisible by n_head=3"),
        (change_config(n_layer="two"), "not a valid GPT-2 config"),
        (change_config(model_type="llama"), "model_type='llama'"),
        (change_config(activation_function="relu"), "activation_function='relu'"),
        (change_config(scale_attn_by_inverse_layer_idx=True), "scale_attn_by_inverse_layer_idx=True"),
        (lambda path: (path / "config.json").write_text("{"), "is not a valid config.json"),
        (lambda path: (path / "config.json").write_text("[]"), "model_type=None"),
        (lambda path: (path / "config.json").write_text("[" * 100_000), "is not a valid config.json"),
        (change_config(attn_implementation="somebody/kernels"), "attn_implementation='somebody/kernels'"),
        (change_config(_attn_implementation="somebody/kernels"), "_attn_implementation='somebody/kernels'"),
        (change_config(n_embd=10**12), "a size below 1 or above"),
        (change_config(n_layer=10**7), "has 28 tensors, and its config.json describes a model of 10,000,000 or more"),
        (lambda path: (path / "tokenizer.json").unlink(), "tokenizer.json missing"),
    ],
)
def test_an_invalid_folder_is_refused_with_the_reason(
    model_folder: ModelFolder, damage: Callable[[Path], None], reason: str
) -> None:
    damage(model_folder.path)
    with pytest.raises(CheckpointError, match=reason):
        read_model_folder(model_folder.path)


def test_a_flipped_bit_in_the_weights_is_detected(model_folder: ModelFolder) -> None:
    check_weights(model_folder)
    weights = model_folder.path / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        check_weights(read_model_folder(model_folder.path))


def test_nonzero_biases_with_bias_false_are_refused(model_folder: ModelFolder) -> None:
    weights = load_file(model_folder.path / "model.safetensors")
    weights["transformer.ln_f.bias"] += 1
    save_file(weights, model_folder.path / "model.safetensors")
    change_config(bias=False)(model_folder.path)
    with pytest.raises(CheckpointError, match="biases that are not zero"):
        load_model(read_model_folder(model_folder.path))


@pytest.mark.parametrize("content", [None, b"", b'{"format": "echoself/1", "run_id"'], ids=["missing", "empty", "cut off"])
def test_a_checkpoint_without_metadata_is_not_read_as_an_untrained_model(
    model_folder: ModelFolder, content: bytes | None
) -> None:
    (model_folder.path / "training_metadata.json").unlink()
    if content is not None:
        (model_folder.path / "training_metadata.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"training_metadata\.json is missing or can't be read"):
        read_model_folder(model_folder.path)
