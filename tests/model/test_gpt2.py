from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import GPT2Config as StockConfig
from transformers import GPT2LMHeadModel

from echoself_action.model.gpt2 import GPT2, GPT2Config


def stock(config: GPT2Config) -> Any:
    return GPT2LMHeadModel(
        StockConfig(
            vocab_size=config.vocab_size,
            n_positions=config.block_size,
            n_embd=config.n_embd,
            n_layer=config.n_layer,
            n_head=config.n_head,
            activation_function=config.activation,
        )
    ).eval()


@pytest.mark.parametrize("activation", ["gelu_new", "gelu"])
def test_logits_equal_those_of_transformers_with_the_same_state_dict(small_config: GPT2Config, activation: Any) -> None:
    config = replace(small_config, activation=activation)
    theirs = stock(config)
    ours = GPT2(config).eval()
    ours.load_state_dict({name: tensor for name, tensor in theirs.state_dict().items() if name != "lm_head.weight"})
    ids = torch.randint(config.vocab_size, (3, config.block_size), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs(ids).logits, atol=1e-5, rtol=0)


def test_attention_is_causal(small_config: GPT2Config) -> None:
    model = GPT2(small_config).eval()
    model.initialise(0)
    ids = torch.arange(16)[None]
    changed = ids.clone()
    changed[0, 10:] = 99
    with torch.no_grad():
        assert torch.equal(model(ids)[:, :10], model(changed)[:, :10])


def test_the_loss_is_the_cross_entropy_of_the_next_token(small_config: GPT2Config) -> None:
    model = GPT2(small_config).eval()
    model.initialise(0)
    ids = torch.arange(16)[None]
    with torch.no_grad():
        probabilities = model(ids[:, :-1]).softmax(-1)
        expected = -probabilities[0, torch.arange(15), ids[0, 1:]].log().mean()
        assert model.loss(ids[:, :-1], ids[:, 1:]).item() == pytest.approx(expected.item(), rel=1e-5)


def test_initialisation_is_that_of_gpt2_and_depends_on_the_seed(small_config: GPT2Config) -> None:
    config = replace(small_config, n_embd=128)
    first, again, other = GPT2(config), GPT2(config), GPT2(config)
    first.initialise(0)
    again.initialise(0)
    other.initialise(1)
    weights = first.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in again.state_dict().items())
    assert not torch.equal(weights["transformer.wte.weight"], other.state_dict()["transformer.wte.weight"])
    assert weights["transformer.h.0.attn.c_attn.weight"].std().item() == pytest.approx(0.02, rel=0.05)
    assert weights["transformer.h.0.attn.c_proj.weight"].std().item() == pytest.approx(0.02 / 2, rel=0.05)


def test_bias_false_leaves_out_all_biases(small_config: GPT2Config) -> None:
    assert not [name for name in GPT2(replace(small_config, bias=False)).state_dict() if name.endswith("bias")]
