import math
from dataclasses import replace

import numpy as np
import pytest

from echoself_action.checkpoint.metadata import bits_per_byte
from echoself_action.checkpoint.model_folder import ModelFolder
from echoself_action.corpus.make_tokenizer import make_tokenizer
from echoself_action.evaluation.loss import bits_per_byte_of, bytes_per_token


def test_with_one_byte_per_token_it_is_the_loss_in_bits() -> None:
    tokenizer = make_tokenizer("bytes", lambda: iter(()))
    windows = [np.frombuffer(b"some text", np.uint8).astype(np.int64)]
    assert bits_per_byte(math.log(2) * 3, bytes_per_token(tokenizer, windows)) == pytest.approx(3)


def test_without_predicted_tokens_it_is_none() -> None:
    assert bytes_per_token(make_tokenizer("bytes", lambda: iter(())), [np.array([1])]) is None
    assert bits_per_byte(1.0, None) is None


def test_a_checkpoint_that_does_not_record_the_size_of_a_token_is_converted_by_its_held_out_text(
    model_folder: ModelFolder,
) -> None:
    assert model_folder.metadata
    old = model_folder.metadata.model_copy(update={"val_loss": math.log(2) * 3, "bytes_per_token": None})
    assert bits_per_byte_of(replace(model_folder, metadata=old)) == pytest.approx(3, abs=0.01)
    new = old.model_copy(update={"bytes_per_token": 2.0})
    assert bits_per_byte_of(replace(model_folder, metadata=new)) == pytest.approx(1.5)
