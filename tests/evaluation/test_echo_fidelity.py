"""Echo fidelity by EchoSelf's two definitions: their arithmetic, why a high score proves nothing, and its baselines."""

import time
from statistics import fmean

import pytest
import torch

from echoself_action.corpus.tokens import Tokens
from echoself_action.evaluation import echo_fidelity as module
from echoself_action.evaluation.echo_fidelity import category_score, echo_score, greedy_answer, measure_fidelity, score_answers
from echoself_action.evaluation.echo_fidelity_terms import CATEGORIES, DIMENSION_TERMS, KEYWORD_DIMENSIONS, KEYWORDS
from echoself_action.evaluation.loss import HeldOut
from echoself_action.evaluation.paired_bootstrap import LanguageModel
from echoself_action.model.gpt2 import GPT2, GPT2Config

TERMS = [*(terms for terms, _ in CATEGORIES.values()), *DIMENSION_TERMS.values()]
LIST_OF_WORDS = " ".join([*KEYWORDS, *KEYWORD_DIMENSIONS, *(term for terms in TERMS for term in terms)])
NO_WORDS = "The weather was fine on that day and nobody went out to sea, " * 4


def answers(text: str) -> list[tuple[str, str]]:
    return [(category, text) for category, (_, prompts) in CATEGORIES.items() for _ in prompts]


@pytest.fixture(scope="module")
def language_model(tokens: Tokens) -> LanguageModel:
    model = GPT2(GPT2Config(257, 32, 1, 2, 16))
    model.initialise(1)
    return LanguageModel(model, tokens.tokenizer)


def test_a_list_of_the_words_has_full_marks() -> None:
    """The measure looks for words: what says nothing at all, but has them, is perfect."""
    assert echo_score(LIST_OF_WORDS) == 1
    found = score_answers(answers(LIST_OF_WORDS))
    assert found.by_category == dict.fromkeys(CATEGORIES, pytest.approx(1.0, abs=0.02))  # a few triples come twice
    assert found.consistency == 1
    text = score_answers(answers(NO_WORDS))
    assert text.score.value == pytest.approx(0.15 * text_diversity(NO_WORDS))


def text_diversity(text: str) -> float:
    words = [word.strip(",") for word in text.lower().split()]
    triples = [tuple(words[index : index + 3]) for index in range(len(words) - 2)]
    return len(set(triples)) / len(triples)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("", 0.075),  # silence is no repetition: the original's 0.5 for fewer than eight words
        ("Echo Self", 0.85 / 3 + 0.075),
        ("I am Deep Tree Echo and this is my identity today", 0.85 * 2 / 3 + 0.15),
        ("my identity " * 10, 0.85 / 3 + 0.15 * 2 / 18),
    ],
)
def test_the_score_of_a_category(answer: str, expected: float) -> None:
    assert category_score("identity_recognition", answer) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("", 0.0),
        ("adaptive", 0.5 * 1 / 5 + 0.3 * 1 / 3 + 0.2 * 8 / 200),
        ("x" * 100, 0.1),
        ("x" * 400, 0.2),
        ("Tensor membrane, salience; awareness? Resonating", 0.5 + 0.2 * 48 / 200),
    ],
)
def test_the_echo_score(answer: str, expected: float) -> None:
    assert echo_score(answer) == pytest.approx(expected)


def test_the_interval_is_over_prompts_within_categories() -> None:
    same = score_answers(answers(NO_WORDS))
    assert same.score.low == pytest.approx(same.score.high)
    mixed = [(category, LIST_OF_WORDS if index % 5 < 2 else NO_WORDS) for index, (category, _) in enumerate(answers(""))]
    found = score_answers(mixed)
    assert found.score.low < found.score.value < found.score.high
    assert found.score.value == pytest.approx(fmean(category_score(*answer) for answer in mixed))
    # the standard deviation of a mean of 30, of which each category has the same 2 of 5
    spread = category_score("cognitive_synergy", LIST_OF_WORDS) - category_score("cognitive_synergy", NO_WORDS)
    assert found.score.high - found.score.low == pytest.approx(3.92 * spread * (0.24 / 30) ** 0.5, rel=0.1)
    assert found.consistency == 0
    assert found.by_dimension == dict.fromkeys(DIMENSION_TERMS, pytest.approx(0.4))


def test_answers_are_greedy_and_of_bounded_length(language_model: LanguageModel, tokens: Tokens) -> None:
    model, prompt = language_model.model, "User: Hi\nEcho:"
    answer = greedy_answer(language_model, prompt, time.monotonic() + 100)
    assert answer
    assert len(answer) <= 512
    ids = [tokens.tokenizer.end_of_text_id, *tokens.tokenizer.encode_batch([prompt])[0].tolist()]
    for _ in range(5):
        ids.append(int(model.eval().logits(torch.tensor([ids[-32:]]))[0, -1].argmax()))
    assert answer.startswith(tokens.tokenizer.decode(ids[-5:])[:3])
    assert greedy_answer(language_model, prompt, time.monotonic() - 1) is None


def test_figures_stand_beside_text_of_the_corpus_and_answers_to_no_prompt(
    language_model: LanguageModel, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parrot(_: LanguageModel, prompt: str, __: float) -> str:
        asked = prompt.partition("User: ")[2].partition("\n")[0]
        return next((" ".join(terms) for terms, prompts in CATEGORIES.values() if asked in prompts), "nothing")

    monkeypatch.setattr(module, "greedy_answer", parrot)
    windows = HeldOut(tokens.val, 32, 4096).windows()
    found = measure_fidelity(language_model, windows)
    assert not isinstance(found, str)
    assert (found.prompts, found.all_prompts) == (30, 30)
    assert found.unprompted.score.value > 0.9
    assert found.difference.low > 0.5  # its prompts matter
    assert found.other_category < 0.4
    assert found.empty_prompt == (pytest.approx(0.075), pytest.approx(0.2 * 7 / 200))
    assert found.held_out
    assert found.held_out.answers == 30
    assert found.held_out.score.value < 0.3
    monkeypatch.setattr(module, "greedy_answer", lambda *_: LIST_OF_WORDS)
    deaf = measure_fidelity(language_model, windows)
    assert not isinstance(deaf, str)
    assert deaf.unprompted.score.value > 0.9
    assert abs(deaf.difference.value) < 1e-9  # full marks, and whatever is asked


def test_no_answer_is_never_an_answer_of_score_zero(
    language_model: LanguageModel, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = HeldOut(tokens.val, 32, 4096).windows()
    assert measure_fidelity(language_model, windows, seconds=0) == "0 seconds are not enough for 2 prompts of each category"
    asked = 0

    def slow(*_: object) -> str | None:
        nonlocal asked
        asked += 1
        return "adaptive" if asked <= 1 + 2 * 6 * 3 else None

    monkeypatch.setattr(module, "greedy_answer", slow)
    found = measure_fidelity(language_model, windows)
    assert not isinstance(found, str)
    assert found.prompts == 18
    assert found.unprompted.echo_score.value == pytest.approx(echo_score("adaptive"))
