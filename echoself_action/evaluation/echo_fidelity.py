"""Echo fidelity: how many of certain words a model writes in answer to 30 prompts, by the two definitions of EchoSelf.

`category_score` is evaluate_condition of NanEcho/evaluation/echo_fidelity.py (format nanecho-fidelity-v2), `echo_score` is
compute_echo_score of NanEcho/evaluation/jsonl_eval.py (github.com/9cog/echoself, commit a53698a). Both look for words: a list
of the words scores 1.0, and says nothing. So each figure has an interval over prompts and three baselines: what held-out text
of the corpus scores, what the answers score by the words of the other categories, and what the answer to no prompt scores.

Answers are greedy, so the same model always has the same figures. EchoSelf lets a model write up to 128 tokens of GPT-2; here
it writes up to `CHARACTERS` characters, about as much, so that models with other tokenizers are comparable. An answer that
could not be generated is not an answer of score 0: with too little time, fewer prompts are asked, and their number is recorded.
"""

import time
from collections.abc import Sequence
from statistics import fmean

import numpy as np
import torch

from ..checkpoint.fidelity_facts import FidelityFacts, FidelityScores
from ..checkpoint.question_facts import Estimate
from ..errors import EchoselfError
from .echo_fidelity_terms import CATEGORIES, DIMENSION_TERMS, KEYWORD_DIMENSIONS, KEYWORDS, SYSTEM_PROMPT
from .generation import next_logits_by_halves, prompt_ids
from .held_out import digest_of
from .loss import texts_of
from .paired_bootstrap import Ids, LanguageModel

CHARACTERS = 512
SECONDS = 120.0
_FEWEST_ROUNDS = 2  # prompts of each category, for an interval
_RESAMPLES, _SEED = 10_000, 0
_LEXICAL, _DIVERSITY, _FEWEST_WORDS = 0.85, 0.15, 8

Answer = tuple[str, str]  # category, text


def category_score(category: str, answer: str) -> float:
    """0.85 of the share of the terms of the category in `answer`, and 0.15 of its share of distinct triples of words."""
    words = [word.strip(".,:;!?()[]").lower() for word in answer.split()]
    triples = list(zip(words, words[1:], words[2:], strict=False))
    diversity = len(set(triples)) / len(triples) if len(words) >= _FEWEST_WORDS else 0.5
    return _LEXICAL * _coverage(answer, CATEGORIES[category][0]) + _DIVERSITY * diversity


def echo_score(answer: str) -> float:
    """0.5 min(1, keywords / 5) + 0.3 min(1, dimensions / 3) + 0.2 min(1, characters / 200); 0 for an empty answer."""
    lower = answer.lower()
    keywords, dimensions = (sum(term in lower for term in terms) for terms in (KEYWORDS, KEYWORD_DIMENSIONS))
    return 0.5 * min(1, keywords / 5) + 0.3 * min(1, dimensions / 3) + 0.2 * min(1, len(answer) / 200)


def dimension_scores(answer: str) -> dict[str, float]:
    """The share of the terms of each persona dimension in `answer`."""
    return {dimension: _coverage(answer, terms) for dimension, terms in DIMENSION_TERMS.items()}


def score_answers(answers: Sequence[Answer]) -> FidelityScores:
    """The scores of answers, at least one of each category."""
    scores = [category_score(*answer) for answer in answers]
    by_category: dict[str, list[int]] = {category: [] for category in CATEGORIES}
    for index, (category, _) in enumerate(answers):
        by_category[category].append(index)
    groups = list(by_category.values())
    dimensions = [dimension_scores(text) for _, text in answers]
    ranges = [
        max(values) - min(values)
        for group in groups
        for dimension in DIMENSION_TERMS
        for values in [[dimensions[index][dimension] for index in group]]
    ]
    return FidelityScores(
        answers=len(answers),
        score=_estimate(scores, groups),
        echo_score=_estimate([echo_score(text) for _, text in answers], groups),
        by_category={category: fmean(scores[index] for index in group) for category, group in by_category.items()},
        by_dimension={name: fmean(one[name] for one in dimensions) for name in DIMENSION_TERMS},
        consistency=1 - fmean(ranges),
    )


def measure_fidelity(language_model: LanguageModel, held_out: Sequence[Ids], seconds: float = SECONDS) -> FidelityFacts | str:
    """Ask the model all prompts, or as many of each category as `seconds` are enough for; the reason if there is no figure.

    `held_out` (1-D ids of its tokenizer) is the text that the answers are compared with. Restores the model's training mode.
    """
    started = time.monotonic()
    deadline = started + seconds
    model = language_model.model
    was_training = model.training
    model.eval()
    try:
        empty = greedy_answer(language_model, _dialogue(""), deadline)
    except EchoselfError as error:
        return f"its tokenizer can't encode the prompts: {error.message}"
    unprompted: list[Answer] = []
    prompted: list[Answer] = []
    rounds = len(next(iter(CATEGORIES.values()))[1])
    for number in range(rounds):
        answers = _ask(language_model, number, deadline)
        if answers is None:
            break
        unprompted += answers[0]
        prompted += answers[1]
    model.train(was_training)
    if empty is None or len(unprompted) < _FEWEST_ROUNDS * len(CATEGORIES):
        return f"{seconds:g} seconds are not enough for {_FEWEST_ROUNDS} prompts of each category"
    elsewhere = [fmean(category_score(other, text) for other in CATEGORIES if other != own) for own, text in unprompted]
    scores = [category_score(*answer) for answer in unprompted]
    groups = [[index for index, (own, _) in enumerate(unprompted) if own == category] for category in CATEGORIES]
    of_corpus = _corpus_answers(language_model, held_out, unprompted)
    return FidelityFacts(
        text=digest_of(held_out),
        prompts=len(unprompted),
        all_prompts=rounds * len(CATEGORIES),
        characters=CHARACTERS,
        unprompted=score_answers(unprompted),
        prompted=score_answers(prompted),
        held_out=score_answers(of_corpus) if of_corpus else None,
        other_category=fmean(elsewhere),
        difference=_estimate([own - other for own, other in zip(scores, elsewhere, strict=True)], groups),
        empty_prompt=(fmean(category_score(category, empty) for category in CATEGORIES), echo_score(empty)),
        seconds=round(time.monotonic() - started, 3),
    )


def _ask(language_model: LanguageModel, number: int, deadline: float) -> tuple[list[Answer], list[Answer]] | None:
    """The answers to prompt `number` of each category, without and with the system prompt; None if the time is over."""
    found: tuple[list[Answer], list[Answer]] = ([], [])
    for category, (_, prompts) in CATEGORIES.items():
        for answers, system in zip(found, ("", f"System: {SYSTEM_PROMPT}\n"), strict=True):
            answer = greedy_answer(language_model, system + _dialogue(prompts[number]), deadline)
            if answer is None:
                return None
            answers.append((category, answer))
    return found


def _dialogue(prompt: str) -> str:
    """As EchoSelf asks."""
    return f"User: {prompt}\nEcho:"


@torch.no_grad()
def greedy_answer(language_model: LanguageModel, prompt: str, deadline: float) -> str | None:
    """What the model writes after `prompt`, always its most likely token, up to the end of the text or `CHARACTERS` characters.

    None if that is not done at `deadline` (time.monotonic()).
    """
    tokenizer = language_model.tokenizer
    ids = prompt_ids(tokenizer, prompt)
    logits, start = next_logits_by_halves(language_model.model), len(ids)
    answer = ""
    while len(ids) < start + 4 * CHARACTERS:  # a character may take four tokens, of bytes
        if time.monotonic() > deadline:
            return None
        ids.append(int(logits(ids)[: tokenizer.vocab_size].argmax()))
        if ids[-1] == tokenizer.end_of_text_id:
            ids.pop()
            break
        if (len(ids) - start) % 16 == 0 and len(tokenizer.decode(ids[start:])) > CHARACTERS:
            break
    answer = tokenizer.decode(ids[start:])
    return answer[:CHARACTERS]


def _corpus_answers(language_model: LanguageModel, held_out: Sequence[Ids], answers: Sequence[Answer]) -> list[Answer]:
    """Pieces of the held-out text of the lengths of the answers, evenly spaced; empty if it is shorter than an answer."""
    text = "".join(texts_of(language_model.tokenizer, held_out))
    longest = max(len(answer) for _, answer in answers)
    starts = [index * (len(text) - longest) // max(1, len(answers) - 1) for index in range(len(answers))]
    pieces = [(category, text[start : start + len(answer)]) for start, (category, answer) in zip(starts, answers, strict=True)]
    return pieces if len(text) >= longest else []


def _coverage(text: str, terms: Sequence[str]) -> float:
    lower = text.lower()
    return sum(term in lower for term in terms) / len(terms)


def _estimate(values: Sequence[float], groups: Sequence[Sequence[int]]) -> Estimate:
    """The mean over groups of the mean of `values` in each, and its interval: prompts are resampled within their group."""
    random, numbers = np.random.default_rng(_SEED), np.asarray(values)
    means = [numbers[list(group)] for group in groups]
    drawn = [one[random.integers(len(one), size=(_RESAMPLES, len(one)))].mean(1) for one in means]
    low, high = np.quantile(np.mean(drawn, axis=0), [0.025, 0.975])
    return Estimate(value=float(np.mean([one.mean() for one in means])), low=float(low), high=float(high))
