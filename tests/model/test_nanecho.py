"""NanEcho: causal if new, with the original's arithmetic if legacy, with and without a key-value cache."""

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from echoself_action.formats.nanecho import read as read_nanecho
from echoself_action.formats.reference_logits import as_tensors
from echoself_action.formats.torch_file.reader import read_torch_file
from echoself_action.model import nanecho
from echoself_action.model.nanecho import NanEchoConfig, NanEchoForCausalLM

FIXTURES = ("train_nanecho_best_model", "best_model_export", "cache/checkpoints/ckpt_20261124_035214_40_dca8f64e_44a379d7")
EXTRAS = ("adaptive_attention", "persona_dimensions", "recursive_reasoning", "hypergraph_patterns")


def model(**changes: Any) -> NanEchoForCausalLM:
    """A small model with every extra, and weights large enough for every part to affect the logits."""
    sizes = {"vocab_size": 50, "n_embd": 16, "n_head": 2, "n_layer": 4, "block_size": 32, "dropout": 0.0}
    result = NanEchoForCausalLM(NanEchoConfig(**sizes | {"current_iteration": 6000, "initial_connections": 0.7} | changes))
    result.initialise(1)
    with torch.no_grad():
        for parameter in result.parameters():
            parameter.normal_(0, 0.3, generator=torch.Generator().manual_seed(parameter.numel()))
    return result.eval()


def ids(batch: int = 2, length: int = 20, seed: int = 0) -> torch.Tensor:
    return torch.randint(50, (batch, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", FIXTURES)
@pytest.mark.parametrize("iteration", [0, 10000])
def test_a_legacy_model_computes_the_originals_logits(shared: Path, name: str, iteration: int) -> None:
    place = shared / "fixtures/nanecho" / name
    source = read_nanecho(read_torch_file(place.with_suffix(".pt")))
    ours = NanEchoForCausalLM(source.config).eval()
    ours.load_state_dict(as_tensors(source.weights))
    ours.config.current_iteration = iteration
    tokens = torch.from_numpy(np.load(place.with_suffix(".input_ids.npy")))
    expected = torch.from_numpy(np.load(place.with_suffix(f".logits_noinject_iter{iteration}.npy")))
    with torch.no_grad():
        found = ours(tokens).logits
    assert (found - expected).abs().max() <= 1e-5
    assert (source.logits(tokens) - expected).abs().max() <= 1e-5
    assert torch.equal(found.argmax(-1), expected.argmax(-1))


@pytest.mark.parametrize("off", [None, *EXTRAS])
@torch.no_grad()
def test_a_new_model_is_causal(off: str | None) -> None:
    ours = model(**{f"enable_{off}": False} if off else {})
    before = ids()
    for position in (1, 7, 19):
        after = before.clone()
        after[:, position:] = ids(seed=9)[:, position:]
        assert torch.equal(ours(before).logits[:, :position], ours(after).logits[:, :position]), position
        assert not torch.equal(ours(before).logits[:, position:], ours(after).logits[:, position:])


@torch.no_grad()
def test_a_legacy_model_is_not_causal() -> None:
    ours, before = model(legacy=True), ids()
    after = before.clone()
    after[:, 7:] = ids(seed=9)[:, 7:]
    assert (ours(before).logits[:, :7] - ours(after).logits[:, :7]).abs().max() > 1e-3


@pytest.mark.parametrize("legacy", [False, True])
def test_generate_returns_the_same_text_with_and_without_a_cache(legacy: bool) -> None:
    ours, prompt = model(legacy=legacy), ids(length=5)
    mask = torch.ones_like(prompt)
    texts = [
        ours.generate(prompt, attention_mask=mask, max_new_tokens=20, do_sample=False, use_cache=cache, pad_token_id=0)
        for cache in (True, False)
    ]
    assert torch.equal(*texts)
    assert texts[0].shape == (2, 25)


@torch.no_grad()
def test_logits_with_the_cache_equal_those_of_the_whole_text() -> None:
    ours, text = model(), ids()
    whole = ours(text, use_cache=False)
    assert whole.past_key_values is None
    part = ours(text[:, :12])
    rest = ours(text[:, 12:], past_key_values=part.past_key_values)
    torch.testing.assert_close(torch.cat([part.logits, rest.logits], 1), whole.logits, atol=1e-5, rtol=0)


@torch.no_grad()
def test_left_padding_does_not_change_the_logits() -> None:
    ours, text = model(), ids(batch=1, length=9)
    padded = torch.cat([torch.zeros(1, 4, dtype=torch.long), text], 1)
    mask = (torch.arange(13) >= 4).long()[None]
    torch.testing.assert_close(ours(padded, attention_mask=mask).logits[:, 4:], ours(text).logits, atol=1e-5, rtol=0)
    alone = ours.generate(text, attention_mask=torch.ones_like(text), max_new_tokens=8, do_sample=False, pad_token_id=0)
    together = ours.generate(padded, attention_mask=mask, max_new_tokens=8, do_sample=False, pad_token_id=0)
    assert torch.equal(alone, together[:, 4:])
    with pytest.raises(ValueError, match="padding included"):
        model(legacy=True)(padded, attention_mask=mask)


def test_labels_are_shifted_by_one_and_for_a_legacy_model_by_two() -> None:
    text = ids(length=21)
    for legacy, shift in ((False, 1), (True, 2)):
        ours = model(legacy=legacy)
        logits = ours(text).logits[:, :-shift]
        expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), text[:, shift:].flatten())
        torch.testing.assert_close(ours(text, labels=text).loss, expected)
    once = model()
    torch.testing.assert_close(once.loss(text[:, :-1], text[:, 1:]), once(text, labels=text).loss)


def test_patterns_are_injected_only_in_training() -> None:
    ours, text = model(pattern_injection_rate=0.5), ids()
    assert torch.equal(ours.logits(text), ours.logits(text))
    ours.train()
    assert not torch.equal(ours.logits(text), ours.logits(text))


def test_initialisation_is_determined_by_the_seed() -> None:
    def made(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(torch.initial_seed() + 1)  # as other tests may have left it
        new = NanEchoForCausalLM(NanEchoConfig(vocab_size=50, n_embd=16, n_head=2, n_layer=2, block_size=32))
        new.initialise(seed)
        return new.state_dict()

    first, again, other = made(3), made(3), made(4)
    assert [name for name in first if not torch.equal(first[name], again[name])] == []
    assert not torch.equal(first["token_embedding.weight"], other["token_embedding.weight"])


def test_connections_grow_by_schedule_until_complete_and_deterministically() -> None:
    def grown(steps: range) -> dict[str, torch.Tensor]:
        ours = NanEchoForCausalLM(NanEchoConfig(vocab_size=50, n_embd=16, n_head=2, n_layer=2, block_size=32).growing_over(90))
        ours.initialise(3)
        shares = []
        for step in steps:
            ours.advance(step)
            shares.append(ours.blocks[0].mlp_connection_mask.mask.mean().item())
        assert shares == sorted(shares)
        return {name: tensor.clone() for name, tensor in ours.state_dict().items() if "mask" in name}

    assert all(tensor.float().mean() == 1 for name, tensor in grown(range(91)).items() if name.endswith(".mask"))
    half, again = grown(range(20)), grown(range(20))
    assert all(torch.equal(half[name], again[name]) for name in half)
    assert 0.4 < half["blocks.1.mlp_connection_mask.mask"].mean() < 0.7  # expected: 0.1 + 9 * 0.05


def test_the_recursion_depth_depends_on_the_iteration_as_in_the_original() -> None:
    depths = [NanEchoConfig(current_iteration=step).recursion_depth for step in (0, 2499, 2500, 7500, 10000, 10**9)]
    assert depths == [1, 1, 2, 4, 5, 5]


def test_a_text_longer_than_block_size_is_an_error() -> None:
    with pytest.raises(ValueError, match="33 tokens are more than block_size, 32"):
        model()(ids(length=33))


def test_the_published_file_imports_only_torch_and_transformers() -> None:
    tree = ast.parse(Path(nanecho.__file__).read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    others = {name.partition(".")[0] for name in imported} - {"torch", "transformers"}
    assert others <= {"__future__", "collections", "copy", "hashlib", "math", "typing"}
