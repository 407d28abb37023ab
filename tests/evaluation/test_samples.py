import pytest

from echoself_action.corpus.token_files import Tokens
from echoself_action.evaluation.samples import sample
from echoself_action.model.gpt2 import GPT2, GPT2Config


@pytest.fixture
def model(small_config: GPT2Config) -> GPT2:
    model = GPT2(small_config)
    model.initialise(0)
    return model


def test_a_sample_begins_with_its_prompt_and_follows_the_seed(model: GPT2, tokens: Tokens) -> None:
    texts = [sample(model, tokens.tokenizer, "Once", tokens=50, seed=seed) for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]
    assert all(text.startswith("Once") for text in texts)


def test_a_sample_may_be_longer_than_the_block(model: GPT2, tokens: Tokens) -> None:
    assert len(sample(model, tokens.tokenizer, "x" * 100, tokens=10)) >= 100


def test_a_sample_ends_with_its_time(model: GPT2, tokens: Tokens) -> None:
    assert sample(model, tokens.tokenizer, "Once", tokens=10**9, seconds=0) == "Once"
    assert len(sample(model, tokens.tokenizer, "Once", tokens=10**9, seconds=0.2)) > len("Once")


def test_a_sample_ends_with_its_document(model: GPT2, tokens: Tokens) -> None:
    """A model that is sure of the end says nothing more."""
    model.transformer.wte.weight.data[256] = 1
    model.transformer.ln_f.weight.data.zero_()
    assert model.transformer.ln_f.bias is not None
    model.transformer.ln_f.bias.data.fill_(100)
    assert sample(model, tokens.tokenizer, "The end.", tokens=50) == "The end."
