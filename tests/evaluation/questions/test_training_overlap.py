"""Questions that the training text has are found, and others are not."""

import numpy as np
import pytest

from echoself_action.corpus.make_tokenizer import make_tokenizer
from echoself_action.corpus.tokenizer import Tokenizer
from echoself_action.evaluation.questions import training_overlap
from echoself_action.evaluation.questions.question_set import Question
from echoself_action.evaluation.questions.training_overlap import training_text

DOCUMENTS = [
    "System: Be kind.\n\nUser: Who\n are you?\n\nAssistant:  I am\tEcho. Always.",
    f"What is it? {'x' * 1500} a shell",
    "User: Where is home?",
    "Assistant: In the tree",
]


@pytest.fixture
def tokenizer() -> Tokenizer:
    return make_tokenizer("bytes", lambda: iter(()))


def ids_of(tokenizer: Tokenizer) -> np.ndarray[tuple[int], np.dtype[np.uint16]]:
    parts = [[*tokenizer.encode_batch([one])[0].tolist(), tokenizer.end_of_text_id] for one in DOCUMENTS]
    return np.array([i for part in parts for i in part], np.uint16)


def question(ask: str, *references: str) -> Question:
    return Question(f"User: {ask}\n\nAssistant:", " ", references, ask=ask)


def test_prompt_and_reference_must_be_near_each_other_in_one_document(tokenizer: Tokenizer) -> None:
    text = training_text(ids_of(tokenizer), tokenizer)
    assert text.is_whole
    assert text.has(question("Who are  you?", "Nobody", "I am Echo."))
    assert not text.has(question("Who are you?", "Nobody"))
    assert not text.has(question("What is it?", "a shell"))  # too far
    assert not text.has(question("Where is home?", "In the tree"))  # another document
    assert not text.has(question("I am Echo.", "Who are you?"))  # in the other order


def test_text_without_an_end_of_text_token_is_searched_across_pieces(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_overlap, "_PIECE", 7)
    tokenizer.end_of_text_id = None
    ids = tokenizer.encode_batch([DOCUMENTS[0]])[0]
    assert training_text(ids, tokenizer).has(question("Who are you?", "I am Echo."))


def test_chats_are_recognised(tokenizer: Tokenizer) -> None:
    assert not training_text(ids_of(tokenizer), tokenizer).has_chats
    ids = np.array([*tokenizer.encode_batch([DOCUMENTS[0]])[0].tolist(), tokenizer.end_of_text_id], np.uint16)
    assert training_text(ids[:-1], tokenizer).has_chats
