import numpy as np
import pytest
import torch

from echoself_action.evaluation.loss import HeldOut
from echoself_action.model.gpt2 import GPT2, GPT2Config
from echoself_action.model.nanecho import NanEchoConfig, NanEchoForCausalLM


@pytest.fixture
def model(small_config: GPT2Config) -> GPT2:
    model = GPT2(small_config)
    model.initialise(0)
    return model


def tokens(length: int) -> "np.ndarray[tuple[int], np.dtype[np.uint16]]":
    return np.random.Generator(np.random.PCG64(0)).integers(257, size=length, dtype=np.uint16)


@pytest.mark.parametrize("length", [2, 20, 33, 34, 100, 10_000])
def test_the_whole_split_counts_every_token_once(model: GPT2, length: int) -> None:
    ids = torch.from_numpy(tokens(length).astype(np.int64))
    total = 0.0
    with torch.no_grad():
        for start in range(0, length - 1, 32):
            window = ids[start : start + 33][None]
            total += model.eval().loss(window[:, :-1], window[:, 1:], reduction="sum").item()
    assert HeldOut(tokens(length), 32).loss(model) == pytest.approx(total / (length - 1), rel=1e-5)


def test_a_limit_selects_fixed_windows_spread_over_the_split(model: GPT2) -> None:
    held_out = HeldOut(tokens(10_000), 32, limit=320)
    assert held_out.loss(model) == held_out.loss(model) == HeldOut(tokens(10_000), 32, limit=320).loss(model)
    changed = tokens(10_000)
    changed[8000:] = 0
    assert HeldOut(changed, 32, limit=320).loss(model) != held_out.loss(model)


def test_a_limit_above_the_size_of_the_split_evaluates_all_of_it(model: GPT2) -> None:
    assert HeldOut(tokens(100), 32, limit=10**6).loss(model) == HeldOut(tokens(100), 32).loss(model)


def test_batches_are_smaller_for_a_large_vocabulary() -> None:
    rows = HeldOut(tokens(4001), 32)._batches(60_000)
    assert max(ids.numel() for ids, _ in rows) * 60_000 <= 1 << 26
    assert sum(ids.numel() for ids, _ in rows) == 4000


def test_evaluation_disables_dropout_and_restores_training_mode(small_config: GPT2Config) -> None:
    model = GPT2(GPT2Config(257, 32, 2, 2, 16, dropout=0.5))
    model.initialise(0)
    model.train()
    held_out = HeldOut(tokens(1000), 32)
    assert held_out.loss(model) == held_out.loss(model)
    assert model.training


@pytest.mark.parametrize("length", [3, 12, 34, 100])
def test_a_legacy_nanecho_is_evaluated_on_the_token_after_the_next(length: int) -> None:
    """The mean over every token with a context token two positions before it in its window of 8 and the next token."""
    model = NanEchoForCausalLM(NanEchoConfig(vocab_size=257, block_size=8, n_layer=4, n_head=2, n_embd=16, legacy=True))
    model.initialise(0)
    ids = torch.from_numpy(tokens(length).astype(np.int64))
    losses = []
    for start in range(0, length - 1, 8):
        window = ids[start : start + 9]
        with torch.no_grad():
            probabilities = model.eval().logits(window[None, :-1])[0].softmax(-1)
        losses += [-torch.log(probabilities[place, window[place + 2]]).item() for place in range(len(window) - 2)]
    assert HeldOut(tokens(length), 8).loss(model) == pytest.approx(sum(losses) / len(losses), rel=1e-4)
