"""What is inside a model: the same computation as its loss, ablations equal to models built so, figures of known cases."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from echoself_action.corpus.tokens import Tokens
from echoself_action.evaluation.introspection import introspect, paths_of, without
from echoself_action.evaluation.loss import HeldOut
from echoself_action.evaluation.paired_bootstrap import LanguageModel
from echoself_action.model import Model
from echoself_action.model.gpt2 import GPT2, GPT2Config
from echoself_action.model.nanecho import NanEchoConfig, NanEchoForCausalLM

BLOCK = 16
SIZES: dict[str, Any] = {"vocab_size": 257, "n_embd": 16, "n_head": 2, "n_layer": 4, "block_size": BLOCK, "dropout": 0.1}
DIMENSIONS = ["calm", "curious"]
WEIGHTS = {"calm": 0.5, "curious": 0.25}


def nanecho(**options: Any) -> NanEchoForCausalLM:
    """A model whose every path matters: large random weights, and depths and connections in the middle of their growth."""
    values = {
        "persona_dimensions": DIMENSIONS,
        "dimension_weights": WEIGHTS,
        "current_iteration": 5,
        "recursion_growth_steps": 10,
    }
    model = NanEchoForCausalLM(NanEchoConfig(**SIZES | values | options))
    model.initialise(3)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn(parameter.shape, generator=generator))
    return model


def gpt2() -> GPT2:
    model = GPT2(GPT2Config(257, BLOCK, 2, 2, 16, dropout=0.1))
    model.initialise(3)
    return model


@pytest.mark.parametrize("make", [gpt2, nanecho, lambda: nanecho(legacy=True)], ids=["gpt2", "nanecho", "legacy"])
def test_with_every_path_on_the_loss_is_that_of_an_evaluation(make: Any, tokens: Tokens) -> None:
    model: Model = make()
    held_out = HeldOut(tokens.val, BLOCK, 512)
    found = introspect(LanguageModel(model, tokens.tokenizer), held_out.windows())
    # one byte is a token here: bits per byte are the loss in bits
    assert found.bits_per_byte == pytest.approx(held_out.loss(model) / math.log(2), abs=2e-6)
    assert found.windows == 512 // BLOCK
    assert found.tokens == found.windows * (BLOCK + 1 - model.label_shift)
    assert model.training  # as before


FLAGS: dict[str, dict[str, Any]] = {
    "adaptive_attention": {"enable_adaptive_attention": False},
    "persona_dimensions": {"enable_persona_dimensions": False},
    "persona_dimensions.calm": {"persona_dimensions": ["curious"]},
    "persona_dimensions.curious": {"persona_dimensions": ["calm"]},
    "recursive_reasoning": {"enable_recursive_reasoning": False},
    "hypergraph_patterns": {"enable_hypergraph_patterns": False},
}


@pytest.mark.parametrize("legacy", [False, True])
def test_an_ablated_model_is_one_that_was_built_without_the_path(legacy: bool) -> None:
    model = nanecho(legacy=legacy).eval()
    ids = torch.randint(257, (2, BLOCK), generator=torch.Generator().manual_seed(0))
    whole, names = model.logits(ids), list(model.state_dict())
    assert paths_of(model) == ["adaptive_attention", "adaptive_threshold", *list(FLAGS)[1:]]
    for path, flags in FLAGS.items():
        built = nanecho(**{"legacy": legacy} | flags).eval()
        weights = model.state_dict()
        assert built.load_state_dict({name: weights[name] for name in built.state_dict()}).missing_keys == []
        with without(model, path):
            ablated = model.logits(ids)
        assert torch.equal(ablated, built.logits(ids)), path
        assert not torch.allclose(ablated, whole), path
    assert torch.equal(model.logits(ids), whole)
    assert list(model.state_dict()) == names


def test_a_constant_threshold_is_the_mean_over_the_text(tokens: Tokens) -> None:
    model = nanecho()
    windows = HeldOut(tokens.val, BLOCK, 256).windows()
    found = introspect(LanguageModel(model, tokens.tokenizer), windows)
    seen: list[list[torch.Tensor]] = [[] for _ in model.blocks]
    hooks = [
        block.attn.register_forward_pre_hook(  # type: ignore[union-attr]
            lambda attn, at, layer=layer: seen[layer].append(attn.threshold(at[1].mean(1, layer, at[0])))
        )
        for layer, block in enumerate(model.blocks)
    ]
    for window in windows:
        model.eval().logits(torch.from_numpy(window[None, :-1].astype(np.int64)))
    for hook in hooks:
        hook.remove()
    for facts, values in zip(found.thresholds, map(torch.cat, seen), strict=True):
        assert facts.mean == pytest.approx(values.mean().item(), abs=1e-5)
        assert facts.deviation == pytest.approx(values.std(correction=0).item(), abs=1e-5)
        assert (facts.low, facts.high) == pytest.approx((values.min().item(), values.max().item()), abs=1e-5)
        assert facts.at_limit == pytest.approx(((values <= 0.3) | (values >= 0.9)).float().mean().item())
    constants = [facts.mean for facts in found.thresholds]
    ids = torch.from_numpy(np.stack(windows).astype(np.int64))
    with without(model, "adaptive_threshold", constants), torch.no_grad():
        loss = model.loss(ids[:, :-1], ids[:, 1:]).item()
    change = next(one.change for one in found.ablations if one.path == "adaptive_threshold")
    assert change == pytest.approx(loss / math.log(2) - found.bits_per_byte, abs=1e-5)


def test_the_weights_are_those_that_mix_the_values() -> None:
    """As the layers multiply them: what the entropy is measured of."""
    x = torch.randn(2, BLOCK, 16, generator=torch.Generator().manual_seed(0))
    attention = gpt2().eval().transformer.h[0].attn
    weights = attention.weights(x)  # type: ignore[operator]
    value = attention.c_attn(x)[..., 32:].view(2, BLOCK, 2, 8).transpose(1, 2)  # type: ignore[operator]
    mixed = (weights @ value).transpose(1, 2).flatten(2)
    torch.testing.assert_close(attention.c_proj(mixed), attention(x))  # type: ignore[operator]


def test_entropies_of_known_attention(tokens: Tokens) -> None:
    model = gpt2()
    windows = HeldOut(tokens.val, BLOCK, 256).windows()
    with torch.no_grad():
        model.transformer.h[0].attn.c_attn.weight.zero_()  # type: ignore[union-attr]
        model.transformer.h[1].attn.c_attn.weight.mul_(1e-4)  # type: ignore[union-attr]
    found = introspect(LanguageModel(model, tokens.tokenizer), windows)
    uniform = sum(math.log2(seen) for seen in range(1, BLOCK + 1)) / BLOCK
    assert found.uniform_entropy == pytest.approx(uniform)
    assert found.entropy[0] == pytest.approx((uniform, uniform), abs=1e-5)
    assert found.ablations == ()
    assert found.connections is None
    with torch.no_grad():  # the first head of layer 1 attends to the first token alone
        position = model.transformer.wpe.weight
        position.zero_()
        position[0, 0] = 1000
        model.transformer.wte.weight.mul_(0.1)
        weight = model.transformer.h[0].attn.c_attn.weight  # type: ignore[union-attr]
        model.transformer.h[0].attn.c_attn.bias[0] = 1  # type: ignore[union-attr]
        weight[0, 16] = 1000
    found = introspect(LanguageModel(model, tokens.tokenizer), windows)
    assert found.entropy[0] == pytest.approx((0.0, uniform), abs=1e-3)


def test_a_path_without_an_effect_has_none_and_one_with_an_effect_has_it(tokens: Tokens) -> None:
    model = nanecho(dimension_weights={"calm": 0.5, "curious": 0.0})
    windows = HeldOut(tokens.val, BLOCK, 512).windows()
    found = introspect(LanguageModel(model, tokens.tokenizer), windows)
    by_path = {one.path: one for one in found.ablations}
    # a dimension of weight 0 adds nothing
    assert by_path["persona_dimensions.curious"].change == 0
    assert by_path["persona_dimensions.curious"].logit_share == 0
    assert not by_path["persona_dimensions.curious"].is_measurable
    assert by_path["persona_dimensions.calm"] == by_path["persona_dimensions"].model_copy(
        update={"path": "persona_dimensions.calm"}
    )
    ids = torch.from_numpy(np.stack(windows).astype(np.int64))
    for path, ablation in by_path.items():
        held = [facts.mean for facts in found.thresholds] if path == "adaptive_threshold" else []
        with torch.no_grad():
            whole = model.eval().logits(ids[:, :-1]).double()
            with without(model, path, held):
                less = model.logits(ids[:, :-1]).double()
        centred = [logits - logits.mean(-1, keepdim=True) for logits in (whole, less)]
        share = (centred[0] - centred[1]).norm() / centred[0].norm()
        assert ablation.logit_share == pytest.approx(share.item(), rel=1e-3, abs=1e-9)
        losses = [F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).item() for logits in (less, whole)]
        assert ablation.change == pytest.approx((losses[0] - losses[1]) / math.log(2), abs=1e-5)
        assert ablation.low is not None
        assert ablation.high is not None
        assert ablation.low <= ablation.change <= ablation.high


def test_masks_and_depth_are_measured_beside_what_is_stated(tokens: Tokens) -> None:
    model = nanecho(initial_connections=0.25)
    for block in model.blocks:
        block.attn.connection_mask.mask.fill_(0)  # type: ignore[union-attr]
    mlp = torch.cat([block.mlp_connection_mask.mask.flatten() for block in model.blocks])  # type: ignore[union-attr]
    found = introspect(LanguageModel(model, tokens.tokenizer), HeldOut(tokens.val, BLOCK, 64).windows())
    assert found.connections == pytest.approx(mlp.sum().item() / (mlp.numel() * 5 / 4))
    assert found.stated_connections == pytest.approx(0.25)
    assert (found.recursion_depth, found.max_recursion_depth) == (3, 5)
    assert found.windows == 4
    assert all(one.low is None for one in found.ablations)  # too few windows for an interval


def test_the_time_is_bounded_and_short_texts_are_enough(tokens: Tokens) -> None:
    model = LanguageModel(nanecho(), tokens.tokenizer)
    windows = HeldOut(tokens.val, BLOCK, 2500).windows()
    assert introspect(model, windows, seconds=0).windows == 1024 // (BLOCK + 1) < len(windows)  # one batch
    short = introspect(model, [tokens.val[:9]])  # less than a window
    assert (short.windows, short.tokens, short.ablation_windows) == (1, 8, 1)
    with pytest.raises(ValueError, match="a token to predict"):
        introspect(model, [tokens.val[:1]])
