"""`incremental`: a text's tokens one after the other, and the logits of the whole text at each."""

from typing import Any

import pytest
import torch
from torch import Tensor

from echoself_action.model import Model
from echoself_action.model.gpt2 import GPT2, GPT2Config
from echoself_action.model.kv_cache import KeyValueCache
from echoself_action.model.nanecho import NanEchoConfig, NanEchoForCausalLM

BLOCK, VOCABULARY = 32, 50
SIZES = {"vocab_size": VOCABULARY, "block_size": BLOCK, "n_layer": 4, "n_head": 2, "n_embd": 16, "dropout": 0.0}
TEXT = torch.randint(VOCABULARY, (3, BLOCK), generator=torch.Generator().manual_seed(0))


def gpt2() -> GPT2:
    return lively(GPT2(GPT2Config(**SIZES)))  # type: ignore[arg-type]


def nanecho(**changes: Any) -> NanEchoForCausalLM:
    return lively(NanEchoForCausalLM(NanEchoConfig(**SIZES, current_iteration=6000, initial_connections=0.7, **changes)))


def lively(model: Any) -> Any:
    """Weights large enough for every part to matter."""
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
def test_token_by_token_the_logits_are_those_of_the_whole_text_to_the_end_of_the_window(model: Model) -> None:
    following, expected = model.incremental(), whole(model)
    assert following
    for position in range(BLOCK):
        found = following(TEXT[:, position : position + 1])
        torch.testing.assert_close(found, expected[:, position], atol=1e-5, rtol=1e-5)


@MODELS
@pytest.mark.parametrize("lengths", [(BLOCK,), (1, BLOCK - 1), (20, 1, 1, 10), (7, 13, 12)], ids=str)
def test_the_pieces_of_a_text_may_be_of_any_length(model: Model, lengths: tuple[int, ...]) -> None:
    following, expected, end = model.incremental(), whole(model), 0
    assert following
    for piece in TEXT.split(lengths, 1):
        end += piece.shape[1]
        torch.testing.assert_close(following(piece), expected[:, end - 1], atol=1e-5, rtol=1e-5)
    assert end == BLOCK


@MODELS
def test_two_texts_of_one_model_do_not_meet(model: Model) -> None:
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
def test_a_text_longer_than_the_block_is_refused_in_words(model: Model, before: int) -> None:
    following = model.incremental()
    assert following
    following(TEXT[:, :before])
    with pytest.raises(ValueError, match=f"{before + 2} tokens are more than block_size, {BLOCK}"):
        following(TEXT[:, :2])


def test_a_legacy_model_whose_past_changes_with_its_future_has_none() -> None:
    assert nanecho(legacy=True).incremental() is None


def test_the_memory_of_a_window_is_taken_once_and_keeps_what_is_in_it() -> None:
    cache, given = KeyValueCache(8), torch.randn(2, 3, 4, 8, 5)  # keys and values
    places = set()
    for piece in given.split((3, 1, 4), 3):
        key, value = cache.append(piece[0], piece[1])
        places.add((key.data_ptr(), value.data_ptr()))
    assert len(places) == 1
    assert torch.equal(torch.stack((key, value)), given)
    assert cache.length == 8
