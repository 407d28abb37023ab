import math

import numpy as np
import pytest

from echoself_action.corpus.tokenizer import make_tokenizer
from echoself_action.evaluation.loss import bits_per_byte


def test_a_token_a_byte_makes_it_the_loss_in_bits() -> None:
    tokenizer = make_tokenizer("bytes", lambda: iter(()))
    windows = [np.frombuffer(b"some text", np.uint8).astype(np.int64)]
    assert bits_per_byte(math.log(2) * 3, tokenizer, windows) == pytest.approx(3)


def test_where_nothing_is_predicted_nothing_is_said() -> None:
    assert bits_per_byte(1.0, make_tokenizer("bytes", lambda: iter(())), [np.array([1])]) is None
