import math

import numpy as np
import pytest

from echoself_action.checkpoint.metadata import bits_per_byte
from echoself_action.corpus.tokenizer import make_tokenizer
from echoself_action.evaluation.loss import bytes_per_token


def test_with_one_byte_per_token_it_is_the_loss_in_bits() -> None:
    tokenizer = make_tokenizer("bytes", lambda: iter(()))
    windows = [np.frombuffer(b"some text", np.uint8).astype(np.int64)]
    assert bits_per_byte(math.log(2) * 3, bytes_per_token(tokenizer, windows)) == pytest.approx(3)


def test_without_predicted_tokens_it_is_none() -> None:
    assert bytes_per_token(make_tokenizer("bytes", lambda: iter(())), [np.array([1])]) is None
    assert bits_per_byte(1.0, None) is None
