"""Dropout by native kernels is the one of a NumPy reference, at all places where GPT-2 drops."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from echoself_action.model.gpt2 import GPT2Config
from echoself_action.native.gpt2 import NativeGPT2
from tests.native.dropout_reference import PLACES, factors
from tests.native.gpt2_reference import Drop, a_batch, a_model, by_native, by_pytorch, error

CONFIG = GPT2Config(vocab_size=65, block_size=37, n_layer=2, n_head=3, n_embd=39, dropout=0.2)
SEEDS = [0, 7, (1 << 64) - 1]


def drop(config: GPT2Config, seeds: list[int]) -> Drop:
    def dropped(place: str, layer: int, x: Tensor) -> Tensor:
        rows, columns = (x.shape[1] * x.shape[2], x.shape[3]) if place == "attention" else x.shape[1:]
        masks = np.stack([factors(seed, layer, place, rows, columns, config.dropout) for seed in seeds])
        return x * torch.from_numpy(masks).view(x.shape)

    return dropped


@pytest.mark.parametrize(
    "config",
    [CONFIG, replace(CONFIG, dropout=0.7), replace(CONFIG, block_size=150, n_head=1), replace(CONFIG, n_head=4, n_embd=64)],
    ids=["odd", "most is dropped", "several blocks of rows", "even"],
)
def test_losses_and_gradients_are_those_with_the_references_masks(dtype: torch.dtype, config: GPT2Config) -> None:
    model, batch = a_model(config), a_batch(config)
    wanted = by_pytorch(model, *batch, drop=drop(config, SEEDS)).tensors()
    found = by_native(model, *batch, dtype, SEEDS).tensors()
    allowed = 1e-5 if dtype is torch.float32 else 0.03
    assert {name: one for name, tensor in wanted.items() if not (one := error(found[name], tensor)) < allowed} == {}


def test_each_place_matters() -> None:
    """The test above can fail: without the masks of one place, losses differ."""
    model, batch = a_model(CONFIG), a_batch(CONFIG)
    wanted, masks = by_pytorch(model, *batch, drop=drop(CONFIG, SEEDS)).losses, drop(CONFIG, SEEDS)
    for place in PLACES:
        other = by_pytorch(model, *batch, drop=lambda at, layer, x: x if at == place else masks(at, layer, x))  # noqa: B023
        assert error(other.losses, wanted) > 0.01


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_rate_is_met_and_the_mean_is_kept(rate: float) -> None:
    """In 3 standard deviations, over all factors and over those of a row or of a column."""
    made = np.stack([factors(seed, layer, place, 100, 300, rate) for seed in SEEDS for layer in range(2) for place in PLACES])
    spread = (rate / (1 - rate)) ** 0.5
    assert abs(made.mean() - 1) < 3 * spread / made.size**0.5
    for axes in ((0, 1), (0, 2)):
        means = made.mean(axes)
        assert means.std() == pytest.approx(spread / (made.size / means.size) ** 0.5, rel=0.3)


def test_masks_are_independent() -> None:
    """Those of other seeds (in their low or high half), layers, places, rows and columns."""
    masks = [factors(seed, 0, "mlp", 200, 300, 0.5) - 1 for seed in (1, 2, 1 << 32, 2 << 32)]
    masks += [factors(1, layer, "mlp", 200, 300, 0.5) - 1 for layer in (1, 2)]
    masks += [factors(1, layer, place, 200, 300, 0.5) - 1 for layer in (0, 1) for place in PLACES if place != "mlp"]
    masks += [np.roll(masks[0], shift, axis) for shift in (1, 2, 16) for axis in (0, 1)]
    correlations = np.corrcoef(np.stack(masks).reshape(len(masks), -1))
    assert np.abs(correlations - np.eye(len(masks))).max() < 4.5 / masks[0].size ** 0.5


def test_other_seeds_give_other_losses_and_the_same_seed_the_same(dtype: torch.dtype) -> None:
    model, batch = a_model(CONFIG), a_batch(CONFIG)
    first, again, other = (by_native(model, *batch, dtype, seeds).losses for seeds in (SEEDS, SEEDS, [0, 7, 8]))
    assert torch.equal(first, again)
    assert torch.equal(first[:2], other[:2])
    assert (first[2] != other[2]).all()


def test_a_sequences_loss_does_not_depend_on_its_batch(dtype: torch.dtype) -> None:
    model, (ids, targets) = a_model(CONFIG), a_batch(CONFIG)
    whole = by_native(model, ids, targets, dtype, SEEDS).losses
    for i, seed in enumerate(SEEDS):
        assert torch.equal(by_native(model, ids[i, None], targets[i, None], dtype, [seed]).losses[0], whole[i])
    reversed_order = by_native(model, ids.flip(0), targets.flip(0), dtype, SEEDS[::-1]).losses
    assert torch.equal(reversed_order.flip(0), whole)


def test_an_evaluation_has_no_dropout(dtype: torch.dtype) -> None:
    batch = a_batch(CONFIG)
    losses = NativeGPT2(a_model(CONFIG), dtype).losses(*batch)
    assert torch.equal(losses, by_native(a_model(replace(CONFIG, dropout=0.0)), *batch, dtype).losses)
    assert not torch.equal(losses, by_native(a_model(CONFIG), *batch, dtype, SEEDS).losses)


def test_a_batch_without_a_seed_for_each_sequence_is_an_error(dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match="a seed for each sequence"):
        by_native(a_model(CONFIG), *a_batch(CONFIG), dtype, SEEDS[:2])
