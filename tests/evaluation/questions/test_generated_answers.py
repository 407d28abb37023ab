"""Generated answers, and the figures of their words."""

import pytest
import torch

from echoself_action.corpus.make_tokenizer import make_tokenizer
from echoself_action.evaluation.paired_bootstrap import LanguageModel
from echoself_action.evaluation.questions import generated_answers
from echoself_action.evaluation.questions.generated_answers import (
    compared_with_references,
    distinct,
    f1,
    generate_answers,
    repetition,
)
from echoself_action.evaluation.questions.question_set import Question
from echoself_action.model.gpt2 import GPT2, GPT2Config

ASKED = [Question("Who?", " ", ("The Echo", "a tree")), Question("Where?", " ", ("In the tree.",))]


def test_answers_are_compared_word_by_word_as_squad_does() -> None:
    facts = compared_with_references(["Echo!", "in tree house"], ASKED)
    assert facts
    assert (facts.answers, facts.exact_match) == (2, 0.5)
    assert facts.f1 == pytest.approx((1 + 2 * 2 / (3 + 2)) / 2)
    assert (f1("", "the"), f1("", "tree")) == (1, 0)


def test_variety_and_repetition_are_of_words() -> None:
    words = ["a", "b", "a", "b", "a", "b"]
    assert distinct([words], 1) == pytest.approx(2 / 6)
    assert distinct([words, ["a", "c"]], 2) == pytest.approx(3 / 6)
    assert repetition(words) == pytest.approx(1 - 2 / 3)
    assert repetition(words[:3]) is None
    assert compared_with_references([], ASKED) is None


def test_answers_are_greedy_and_end_at_the_limit_of_tokens_and_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    model = GPT2(GPT2Config(vocab_size=257, block_size=64, n_layer=1, n_head=1, n_embd=8))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.transformer.ln_f.bias.fill_(1.0)
        model.transformer.wte.weight[ord("x")] = 1.0
    tokenizer = make_tokenizer("bytes", lambda: iter(()))
    answers = generate_answers(LanguageModel(model, tokenizer), ASKED)
    assert answers == ["x" * (1 + len("The Echo") + 16), "x" * (1 + len("In the tree.") + 16)]
    assert answers == generate_answers(LanguageModel(model, tokenizer), ASKED)
    monkeypatch.setattr(generated_answers, "MOST_SECONDS", -1)
    assert generate_answers(LanguageModel(model, tokenizer), ASKED) == []


def test_an_answer_ends_where_the_next_turn_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = make_tokenizer("bytes", lambda: iter(()))
    said = iter(tokenizer.encode_batch([" Echo.\n\nSo.\n\nUser: And"])[0].tolist())
    logits = {"logits": lambda _: torch.nn.functional.one_hot(torch.tensor(next(said)), 257).float()}
    monkeypatch.setattr(generated_answers, "next_logits", lambda _: logits["logits"])
    model = GPT2(GPT2Config(vocab_size=257, block_size=64, n_layer=1, n_head=1, n_embd=8))
    asked = [Question("User: Who?\n\nAssistant:", " ", ("x" * 60,))]
    assert generate_answers(LanguageModel(model, tokenizer), asked) == ["Echo.\n\nSo."]
