"""`preset: auto`: the sizes of a new model over a grid of corpora, times and machines, and the settings of its runs."""

from itertools import pairwise, product
from typing import Any

import pytest

from echoself_action.model.config import GPT2Config
from echoself_action.training.auto_preset import Corpus, Sizes, choose_sizes, run_settings, vocabulary_size

BYTES = [2_000, 30_000, 300_000, 1_000_000, 10_000_000, 100_000_000, 10**10]
MINUTES = [0.2, 1.5, 8, 30, 330]
FLOPS = [2.0**exponent for exponent in (30, 36, 38, 40, 44, 48)]


def corpus(text_bytes: int) -> Corpus:
    tokens = text_bytes // 3
    return Corpus(text_bytes, tokens, tokens // 9, vocabulary_size(text_bytes))


def choose(text_bytes: int, minutes: float, flops: float, **given: Any) -> Sizes:
    return choose_sizes(corpus(text_bytes), minutes, flops, given)


def parameters(sizes: Sizes) -> int:
    return 12 * sizes.n_layer * sizes.n_embd**2


def test_more_text_more_time_or_a_faster_machine_never_gives_a_smaller_model() -> None:
    def not_smaller(sizes: list[Sizes]) -> None:
        for smaller, larger in pairwise(sizes):
            assert parameters(smaller) <= parameters(larger)
            assert smaller.block_size <= larger.block_size

    for minutes, flops in product(MINUTES, FLOPS):
        not_smaller([choose(text_bytes, minutes, flops) for text_bytes in BYTES])
    for text_bytes, flops in product(BYTES, FLOPS):
        not_smaller([choose(text_bytes, minutes, flops) for minutes in MINUTES])
    for text_bytes, minutes in product(BYTES, MINUTES):
        not_smaller([choose(text_bytes, minutes, flops) for flops in FLOPS])


@pytest.mark.parametrize("multiple", [1, 4])
def test_sizes_are_those_of_a_valid_model(multiple: int) -> None:
    for text_bytes, minutes, flops in product(BYTES, MINUTES, FLOPS):
        sizes = choose_sizes(corpus(text_bytes), minutes, flops, {}, multiple)
        assert sizes.n_embd % sizes.n_head == sizes.n_embd % multiple == 0
        assert sizes.n_embd // sizes.n_head % 32 == 0, "native kernels"
        assert sizes.block_size < max(corpus(text_bytes).val_tokens, 9)
        assert 0 <= sizes.dropout < 0.5
        assert sizes.steps >= 1


def test_models_of_little_text_get_input_noise_rather_than_dropout_which_costs_speed() -> None:
    noises = []
    for text_bytes in BYTES:
        sizes = choose(text_bytes, 330, 2.0**44)
        assert sizes.dropout == 0
        config = GPT2Config(1024, sizes.block_size, sizes.n_layer, sizes.n_head, sizes.n_embd)
        noises.append(run_settings(config, "muon", None)["input_noise"])
    assert noises == sorted(noises, reverse=True)
    assert noises[0] > 0 == noises[-1]


def test_a_short_time_on_a_slow_machine_gives_a_smaller_model_than_the_corpus_allows() -> None:
    slow, fast = choose(10_000_000, 1.5, 2.0**37), choose(10_000_000, 330, 2.0**47)
    assert parameters(slow) < parameters(fast) / 4


def test_the_others_are_chosen_around_the_sizes_that_are_given() -> None:
    alone = choose(1_000_000, 8, 2.0**39)
    assert choose(1_000_000, 8, 2.0**39, dropout=0.4).dropout == 0.4
    assert choose(1_000_000, 8, 2.0**39, block_size=64).block_size == 64
    assert choose(1_000_000, 8, 2.0**39, n_layer=1).n_embd > alone.n_embd
    heads = choose(1_000_000, 8, 2.0**39, n_head=5)
    assert (heads.n_head, heads.n_embd % 5) == (5, 0)
    for width in (8, 96, 130, 200):
        sizes = choose(1_000_000, 8, 2.0**39, n_embd=width)
        assert (sizes.n_embd, width % sizes.n_head) == (width, 0)


def test_vocabularies_grow_with_the_corpus() -> None:
    sizes = [vocabulary_size(text_bytes) for text_bytes in [0, *BYTES]]
    assert sizes == sorted(sizes)


def test_the_settings_of_a_run_depend_on_the_model_alone() -> None:
    small, large = GPT2Config(1024, 128, 2, 2, 128), GPT2Config(8192, 512, 12, 12, 768)
    assert run_settings(small, "muon", None) == run_settings(small, "muon", None)
    assert run_settings(small, "muon", None)["learning_rate"] > run_settings(large, "muon", None)["learning_rate"]
    assert run_settings(small, "muon", None)["learning_rate"] > run_settings(small, "adamw", None)["learning_rate"]
    assert run_settings(small, "muon", 20)["warmup"] < 20
