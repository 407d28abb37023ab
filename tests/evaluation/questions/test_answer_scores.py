"""The likelihoods of answers: right for each answer alone, whatever is computed with it."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from echoself_action.corpus.make_tokenizer import make_tokenizer
from echoself_action.evaluation.paired_bootstrap import LanguageModel
from echoself_action.evaluation.questions import answer_scores
from echoself_action.evaluation.questions.answer_scores import score_questions
from echoself_action.evaluation.questions.question_results import summarised
from echoself_action.evaluation.questions.question_set import Question
from echoself_action.model.gpt2 import GPT2, GPT2Config
from echoself_action.model.nanecho import NanEchoConfig, NanEchoForCausalLM
from echoself_action.native import models as native_models

BLOCK = 64
QUESTIONS = [
    Question("User: Who are you?\n\nAssistant:", " ", ("I am Echo.",), ("Blue.", "Forty-two, of course.")),
    Question("One and one is", " ", ("two", "2"), ("five",)),
    Question("A fox", "\n\n", ("jumps é",), ("sleeps", "flies away over the hill")),
]


@pytest.fixture(scope="module")
def language_model() -> LanguageModel:
    """An untrained model with weights large enough to have preferences."""
    model = GPT2(GPT2Config(vocab_size=257, block_size=BLOCK, n_layer=2, n_head=2, n_embd=16))
    model.initialise(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5)
    return LanguageModel(model, make_tokenizer("bytes", lambda: iter(())))


def likelihood(one: LanguageModel, context: str, answer: str) -> float:
    """By the logits of the whole text, one answer at a time."""
    end = one.tokenizer.end_of_text_id
    ids = torch.tensor([[end, *one.tokenizer.encode_batch([context + answer])[0].tolist()]])
    logs = one.model.logits(ids[:, :-1]).log_softmax(-1)[0]
    taken = logs[torch.arange(ids.shape[1] - 1), ids[0, 1:]]
    return taken[len(context.encode()) :].sum().item()


@pytest.mark.parametrize("native", [True, False])
def test_answers_have_their_likelihood_after_the_prompt_and_without_it(
    language_model: LanguageModel, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not native:
        monkeypatch.setattr(answer_scores, "evaluated_natively", lambda _: None)
    elif native_models.evaluated_natively(language_model.model) is None:
        pytest.skip("no native kernels on this machine")
    scores = score_questions(language_model, QUESTIONS)
    for question, result in zip(QUESTIONS, scores.results, strict=True):
        speaker = "Assistant:" if question.prompt.endswith("Assistant:") else ""
        answers = [question.gap + answer for answer in question.answers]
        given = [likelihood(language_model, question.prompt, answer) for answer in answers]
        alone = [likelihood(language_model, speaker, answer) for answer in answers]
        np.testing.assert_allclose(result.given_prompt, given, rtol=1e-4)
        np.testing.assert_allclose(result.alone, alone, rtol=1e-4)
        assert result.bytes.tolist() == [len(answer.encode()) for answer in answers]
    assert (scores.cut_prompts, scores.long_answers) == (0, 0)


@pytest.mark.parametrize("at_once", [1, 100, 8192])
def test_the_batch_changes_no_figure(language_model: LanguageModel, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    together = score_questions(language_model, QUESTIONS).results
    monkeypatch.setattr(answer_scores, "_TOKENS_AT_ONCE", at_once)
    alone = [score_questions(language_model, [one]).results[0] for one in reversed(QUESTIONS)][::-1]
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one.given_prompt, other.given_prompt, rtol=1e-5)
        np.testing.assert_allclose(one.alone, other.alone, rtol=1e-5)
    assert summarised(alone).accuracy == summarised(together).accuracy


def test_a_long_prompt_is_cut_at_its_start_and_counted(language_model: LanguageModel) -> None:
    short = QUESTIONS[0]
    long = replace(short, prompt=f"{'x' * 200}{short.prompt}")
    scores = score_questions(language_model, [short, long])
    assert scores.cut_prompts == 1
    answer = f" {short.references[0]}"
    kept = long.prompt[-(BLOCK + 1 - len(answer)) :]
    ids = torch.tensor([[*kept.encode(), *answer.encode()]])
    logs = language_model.model.logits(ids[:, :-1]).log_softmax(-1)[0, -len(answer) :]
    expected = logs[torch.arange(len(answer)), ids[0, -len(answer) :]].sum().item()
    assert scores.results[1].given_prompt[0] == pytest.approx(expected, rel=1e-4)


def test_an_answer_longer_than_the_context_is_scored_whole_in_parts(language_model: LanguageModel) -> None:
    answer = "abcdefghij" * 20
    scores = score_questions(language_model, [Question("Say it:", " ", (answer,), ("no",))])
    assert scores.long_answers == 1
    text = f"Say it: {answer}".encode()
    ids, total = [256, *text], 0.0
    first = len(ids) - len(answer) - 1
    for start in range(first, len(ids), BLOCK // 2):
        end = min(start + BLOCK // 2, len(ids))
        window = torch.tensor([ids[max(0, end - BLOCK - 1) : end]])
        logs = language_model.model.logits(window[:, :-1]).log_softmax(-1)[0, -(end - start) :]
        total += logs[torch.arange(end - start), window[0, -(end - start) :]].sum().item()
    assert scores.results[0].given_prompt[0] == pytest.approx(total, rel=1e-4)


def test_a_model_that_knows_nothing_guesses(language_model: LanguageModel) -> None:
    model = GPT2(language_model.model.config)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    scores = summarised(score_questions(LanguageModel(model, language_model.tokenizer), QUESTIONS).results)
    assert scores.accuracy.value == pytest.approx(scores.chance) == pytest.approx((1 / 3 + 2 / 3 + 1 / 3) / 3)
    assert scores.preference.value == 0.5
    assert scores.bits_per_byte.value == pytest.approx(math.log2(257))


@pytest.mark.parametrize("legacy", [False, True])
@torch.no_grad()
def test_a_nanecho_predicts_each_token_of_the_answers_as_far_ahead_as_it_was_trained_to(legacy: bool) -> None:
    """A legacy one was trained to predict the token after the next, and is not causal: each text is computed by itself."""
    sizes = {"vocab_size": 257, "n_embd": 16, "n_head": 2, "n_layer": 2, "block_size": BLOCK, "dropout": 0.0}
    model = NanEchoForCausalLM(NanEchoConfig(**sizes, legacy=legacy)).eval()
    model.initialise(1)
    for parameter in model.parameters():
        parameter.mul_(3)
    scores = score_questions(LanguageModel(model, make_tokenizer("bytes", lambda: iter(()))), QUESTIONS)
    ahead = model.label_shift
    for question, result in zip(QUESTIONS, scores.results, strict=True):
        for number, answer in enumerate(question.answers):
            ids = torch.tensor([[*[256] * ahead, *f"{question.prompt}{question.gap}{answer}".encode()]])
            size = len((question.gap + answer).encode())
            logs = model.logits(ids[:, :-1]).log_softmax(-1)[0]
            taken = logs[torch.arange(len(ids[0]) - ahead), ids[0, ahead:]]
            assert result.given_prompt[number] == pytest.approx(taken[-size:].sum().item(), rel=1e-4)
