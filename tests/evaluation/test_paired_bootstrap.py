"""The paired bootstrap: correct verdicts for models of known quality, and a bounded rate of false positives."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from echoself_action.checkpoint.metadata import bits_per_byte
from echoself_action.corpus.make_tokenizer import make_tokenizer
from echoself_action.corpus.tokens import Tokens
from echoself_action.evaluation.gate import judge_difference
from echoself_action.evaluation.loss import HeldOut, bytes_per_token
from echoself_action.evaluation.paired_bootstrap import Difference, Ids, LanguageModel, compare, intervals
from echoself_action.model.gpt2 import GPT2, GPT2Config
from echoself_action.training.init_or_resume import new_run
from echoself_action.training.result import StopRequest
from echoself_action.training.run import Data
from echoself_action.training.trainer import Callbacks, train
from tests.conftest import training_settings


@pytest.fixture(scope="module")
def trained(tokens: Tokens, tmp_path_factory: pytest.TempPathFactory) -> GPT2:
    run = new_run(GPT2Config(257, 32, 2, 2, 16), Data(tokens, []), training_settings(max_iters=60))
    train(run, tmp_path_factory.mktemp("trained"), StopRequest(), Callbacks(lambda _: None, pytest.fail))
    assert isinstance(run.model, GPT2)
    return run.model


@pytest.fixture(scope="module")
def windows(tokens: Tokens) -> list[Ids]:
    return list(HeldOut(tokens.val, 32, 8192).windows())


def worsened(model: GPT2, amount: float, seed: int) -> GPT2:
    """A copy of the model with noise of this amount added to its weights."""
    other = GPT2(model.config)
    other.load_state_dict(model.state_dict())
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += amount * torch.randn(parameter.shape, generator=generator)
    return other


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("ours", "theirs", "improved"), [(0.0, 0.2, True), (0.2, 0.0, False), (0.05, 0.3, True), (0, 0, False)]
)
def test_the_verdict_on_models_whose_order_is_known(
    trained: GPT2, windows: list[Ids], tokens: Tokens, ours: float, theirs: float, improved: bool, seed: int
) -> None:
    first = LanguageModel(worsened(trained, ours, seed), tokens.tokenizer)
    second = LanguageModel(worsened(trained, theirs, seed + 100), tokens.tokenizer)
    difference = compare(first, second, windows)
    assert judge_difference("improved", difference, "commit").passed is improved
    assert difference.low <= difference.mean <= difference.high
    for language_model, loss, nats in (
        (first, difference.candidate, difference.candidate_nats),
        (second, difference.published, difference.published_nats),
    ):
        measured = HeldOut(tokens.val, 32, 8192).loss(language_model.model)
        assert measured == pytest.approx(nats, abs=1e-5)
        assert bits_per_byte(measured, bytes_per_token(tokens.tokenizer, windows)) == pytest.approx(loss, abs=1e-5)


def test_the_false_positive_rate_for_equal_models_is_at_most_5_percent(
    trained: GPT2, windows: list[Ids], tokens: Tokens
) -> None:
    language_models = [LanguageModel(worsened(trained, 0.02, seed), tokens.tokenizer) for seed in (1, 2)]
    scores = np.stack([_by_window(language_model, windows) for language_model in language_models])
    generator = np.random.default_rng(1)
    false, draws = 0, 400  # the true rate is 2.5 %: with so many draws, it does not reach 5 % by chance
    for _ in range(draws):
        swapped = generator.integers(0, 2, len(windows))  # swap the models per window at random: then both are equal
        ours, theirs = scores[swapped, np.arange(len(windows))], scores[1 - swapped, np.arange(len(windows))]
        false += intervals([(ours, theirs)], resamples=2000)[0][1] < 0
    assert false / draws <= 1 / 20


def _by_window(language_model: LanguageModel, windows: Sequence[Ids]) -> np.ndarray:
    held = [HeldOut(window, 32) for window in windows]
    counts = [len(window) - 1 for window in windows]
    return np.array([[one.loss(language_model.model) * count, count] for one, count in zip(held, counts, strict=True)])


def test_the_same_seed_gives_the_same_interval(trained: GPT2, windows: list[Ids], tokens: Tokens) -> None:
    pair = LanguageModel(trained, tokens.tokenizer), LanguageModel(worsened(trained, 0.01, 1), tokens.tokenizer)
    assert compare(*pair, windows) == compare(*pair, windows)


def test_not_worse_passes_a_model_within_its_margin(trained: GPT2, windows: list[Ids], tokens: Tokens) -> None:
    difference = compare(
        LanguageModel(worsened(trained, 0.1, 1), tokens.tokenizer), LanguageModel(trained, tokens.tokenizer), windows
    )
    assert difference.mean > 0
    assert not judge_difference("improved", difference, "").passed
    assert judge_difference("not_worse=1", difference, "").passed
    assert not judge_difference("not_worse=0.0001", difference, "").passed


def test_the_margin_of_not_worse_is_in_nats_per_token_if_the_tokenizers_are_the_same() -> None:
    difference = Difference(1.55, 1.5, 0.04, 0.06, 64, 4096, 3.3, 3.2, 0.12)
    refused = judge_difference("not_worse=0.1", difference, "")
    assert not refused.passed
    assert (
        "may be worse than the published model by 0.1 nats per token or more: 1.5500 vs. 1.5000 bits per byte" in refused.reason
    )
    assert "(3.3000 vs. 3.2000 nats per token)" in refused.reason
    assert judge_difference("not_worse=0.13", difference, "").passed
    other_tokenizer = replace(difference, candidate_nats=None, published_nats=None, high_nats=None)
    passed = judge_difference("not_worse=0.1", other_tokenizer, "")
    assert passed.passed
    assert "by 0.1 bits per byte or more" in passed.reason


def test_models_with_different_tokenizers_are_compared_in_bits_per_byte(
    trained: GPT2, windows: list[Ids], tokens: Tokens, tmp_path: Path
) -> None:
    texts = ["the model that is trained and the one that is published"] * 50
    bpe = make_tokenizer("bpe:280", lambda: iter(texts))
    other = GPT2(replace(trained.config, vocab_size=bpe.vocab_size))
    other.initialise(1)
    difference = compare(LanguageModel(trained, tokens.tokenizer), LanguageModel(other, bpe), windows)
    assert difference.candidate_nats is difference.high_nats is None
    assert difference.high < 0
    nats = HeldOut(tokens.val, 32, 8192).loss(trained)
    assert difference.candidate == pytest.approx(nats / np.log(2), rel=0.02)  # one byte per token


def test_a_model_with_a_smaller_block_size_scores_all_tokens_of_the_windows(
    trained: GPT2, windows: list[Ids], tokens: Tokens
) -> None:
    small = GPT2(replace(trained.config, block_size=10))
    small.initialise(1)
    difference = compare(LanguageModel(small, tokens.tokenizer), LanguageModel(trained, tokens.tokenizer), windows)
    assert difference.low > 0
    assert difference.tokens == sum(len(window) - 1 for window in windows)
