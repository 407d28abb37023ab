import re
from dataclasses import replace
from typing import Any

import pytest
import torch

from echoself_action.corpus.make_tokenizer import ids_tokenizer
from echoself_action.corpus.tokens import Tokens
from echoself_action.evaluation.generation import next_logits, next_logits_by_halves, sample, sample_ids
from echoself_action.model import Model
from echoself_action.model.gpt2 import GPT2, GPT2Config
from echoself_action.model.nanecho import NanEchoConfig, NanEchoForCausalLM


@pytest.fixture
def model(small_config: GPT2Config) -> GPT2:
    model = GPT2(small_config)
    model.initialise(0)
    return model


@pytest.fixture(params=["gpt2", "nanecho", "legacy nanecho"])
def large_logits_model(request: pytest.FixtureRequest, small_config: GPT2Config) -> Model:
    """A model whose logits differ enough for each token to depend on the previous ones."""
    sizes = {"vocab_size": 257, "block_size": 16, "n_layer": 4, "n_head": 2, "n_embd": 16, "dropout": 0.0}
    legacy = request.param == "legacy nanecho"
    nanecho = NanEchoConfig(**sizes, current_iteration=6000, legacy=legacy)
    model: Any = GPT2(replace(small_config, block_size=16)) if request.param == "gpt2" else NanEchoForCausalLM(nanecho)
    model.initialise(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3, generator=torch.Generator().manual_seed(parameter.numel()))
    return model


def test_a_sample_starts_with_the_prompt_and_depends_on_the_seed(model: GPT2, tokens: Tokens) -> None:
    texts = [sample(model, tokens.tokenizer, "Once", tokens=50, seed=seed) for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]
    assert all(text.startswith("Once") for text in texts)


def test_a_sample_may_exceed_block_size(model: GPT2, tokens: Tokens) -> None:
    assert len(sample(model, tokens.tokenizer, "x" * 100, tokens=10)) >= 100


def test_sampling_stops_at_the_time_limit(model: GPT2, tokens: Tokens) -> None:
    assert sample(model, tokens.tokenizer, "Once", tokens=10**9, seconds=0) == "Once"
    assert len(sample(model, tokens.tokenizer, "Once", tokens=10**9, seconds=0.2)) > len("Once")


def test_sampling_stops_at_end_of_text(model: GPT2, tokens: Tokens) -> None:
    """The model predicts end-of-text with certainty."""
    model.transformer.wte.weight.data[256] = 1
    model.transformer.ln_f.weight.data.zero_()
    assert model.transformer.ln_f.bias is not None
    model.transformer.ln_f.bias.data.fill_(100)
    assert sample(model, tokens.tokenizer, "The end.", tokens=50) == "The end."


@torch.no_grad()
def test_logits_with_the_cache_equal_those_of_the_whole_window(large_logits_model: Model) -> None:
    logits, ids = next_logits(large_logits_model.eval()), [256, 7, 8]
    for step in range(24):  # beyond block_size, which is 16
        expected = large_logits_model.logits(torch.tensor([ids[-16:]]))[0, -1]
        torch.testing.assert_close(logits(ids), expected, atol=1e-5, rtol=1e-5)
        ids.append(step * 37 % 256)


@torch.no_grad()
@pytest.mark.parametrize("prompt_length", [3, 40])
def test_a_full_window_keeps_its_newer_half(large_logits_model: Model, prompt_length: int) -> None:
    logits, ids = next_logits_by_halves(large_logits_model.eval()), [step * 37 % 256 for step in range(prompt_length)]
    first = max(0, prompt_length - 8) if prompt_length > 16 else 0
    for step in range(24):  # block_size is 16
        first = len(ids) - 8 if len(ids) - first > 16 else first
        expected = large_logits_model.logits(torch.tensor([ids[first:]]))[0, -1]
        torch.testing.assert_close(logits(ids), expected, atol=1e-5, rtol=1e-5)
        ids.append(step * 41 % 256)


@pytest.mark.parametrize("prompt_length", [1, 10, 16, 20])
def test_samples_are_the_same_with_and_without_the_cache_also_beyond_block_size(
    large_logits_model: Model, prompt_length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = [256, *range(prompt_length - 1)]
    cached = [sample_ids(large_logits_model, prompt, None, 24, 0.8, seed) for seed in range(4)]
    monkeypatch.setattr(type(large_logits_model), "incremental", lambda _: None)
    assert [sample_ids(large_logits_model, prompt, None, 24, 0.8, seed) for seed in range(4)] == cached
    assert len({tuple(ids) for ids in cached}) == 4
    assert all(len(ids) == 24 for ids in cached)


def test_the_spaces_between_tokens_are_those_of_the_whole_text() -> None:
    tokenizer = ids_tokenizer(20)
    model = GPT2(GPT2Config(vocab_size=20, block_size=8, n_layer=1, n_head=1, n_embd=4))
    model.initialise(0)
    text = sample(model, tokenizer, "3 14", tokens=4)
    assert re.fullmatch(r"3 14( \d+){4}", text)
