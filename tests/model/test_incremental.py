"""`incremental`: with the key-value cache, the logits are those of the whole text."""

from typing import Any

import pytest
import torch
from torch import Tensor

from echoself_action.model import Model
from echoself_action.model.attention import KeyValueCache
from echoself_action.model.gpt2 import GPT2, GPT2Config
from echoself_action.model.nanecho import NanEchoConfig, NanEchoForCausalLM

BLOCK, VOCABULARY = 32, 50
SIZES = {"vocab_size": VOCABULARY, "block_size": BLOCK, "n_layer": 4, "n_head": 2, "n_embd": 16, "dropout": 0.0}
TEXT = torch.randint(VOCABULARY, (3, BLOCK), generator=torch.Generator().manual_seed(0))


def gpt2() -> GPT2:
    return large_weights(GPT2(GPT2Config(**SIZES)))  # type: ignore[arg-type]


def nanecho(**changes: Any) -> NanEchoForCausalLM:
    return large_weights(NanEchoForCausalLM(NanEchoConfig(**SIZES, current_iteration=6000, initial_connections=0.7, **changes)))


def large_weights(model: Any) -> Any:
    """The model with weights large enough for every part to affect the logits."""
    model.initialise(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3, generator=torch.Generator().manual_seed(parameter.numel()))
    return model.eval()


@torch.no_grad()
def whole(model: Model, ids: Tensor = TEXT) -> Tensor:
    return model.logits(ids)


MODELS = pytest.mark.parametrize("model", [gpt2(), nanecho()], ids=["gpt2", "nanecho"])


@MODELS
def test_incremental_logits_equal_the_logits_of_the_whole_text_up_to_block_size(model: Model) -> None:
    following, expected = model.incremental(), whole(model)
    assert following
    for position in range(BLOCK):
        found = following(TEXT[:, position : position + 1])
        torch.testing.assert_close(found, expected[:, position], atol=1e-5, rtol=1e-5)


@MODELS
@pytest.mark.parametrize("lengths", [(BLOCK,), (1, BLOCK - 1), (20, 1, 1, 10), (7, 13, 12)], ids=str)
def test_any_number_of_tokens_can_be_appended_at_a_time(model: Model, lengths: tuple[int, ...]) -> None:
    following, expected, end = model.incremental(), whole(model), 0
    assert following
    for piece in TEXT.split(lengths, 1):
        end += piece.shape[1]
        torch.testing.assert_close(following(piece), expected[:, end - 1], atol=1e-5, rtol=1e-5)
    assert end == BLOCK


@MODELS
def test_two_texts_of_one_model_have_separate_caches(model: Model) -> None:
    other = TEXT.flip(1)
    one, two = model.incremental(), model.incremental()
    assert one
    assert two
    one(TEXT[:, :9])
    two(other[:, :5])
    torch.testing.assert_close(one(TEXT[:, 9:10]), whole(model)[:, 9], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(two(other[:, 5:6]), whole(model, other)[:, 5], atol=1e-5, rtol=1e-5)


@MODELS
@pytest.mark.parametrize("before", [BLOCK - 1, BLOCK])
def test_a_text_longer_than_block_size_is_an_error(model: Model, before: int) -> None:
    following = model.incremental()
    assert following
    following(TEXT[:, :before])
    with pytest.raises(ValueError, match=f"{before + 2} tokens are more than block_size, {BLOCK}"):
        following(TEXT[:, :2])


def test_a_legacy_nanecho_which_is_not_causal_has_no_incremental_function() -> None:
    assert nanecho(legacy=True).incremental() is None


def test_the_cache_allocates_memory_once_and_keeps_its_contents() -> None:
    cache, given = KeyValueCache(8), torch.randn(2, 3, 4, 8, 5)  # keys and values
    places = set()
    for piece in given.split((3, 1, 4), 3):
        key, value = cache.append(piece[0], piece[1])
        places.add((key.data_ptr(), value.data_ptr()))
    assert len(places) == 1
    assert torch.equal(torch.stack((key, value)), given)
    assert cache.length == 8
