"""What a model writes after the prompts of questions, by greedy decoding, compared with the references word by word.

Exact match and F1 of words are SQuAD's (Rajpurkar et al. 2016): letters in lower case, no punctuation, no articles. The variety
of the answers is distinct-n (Li et al. 2016), their repetition the share of repeated sequences of four words (Welleck et al.
2020).
"""

import re
import time
from collections import Counter
from collections.abc import Sequence

import torch

from ...checkpoint.question_facts import GeneratedAnswers
from ..generation import next_logits, prompt_ids
from ..paired_bootstrap import LanguageModel
from .question_set import Question

MOST_ANSWERS, MOST_SECONDS, MOST_TOKENS = 50, 20.0, 128
_ROOM = 16  # tokens beyond the longest reference
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_WORD = re.compile(r"\w+")
_NEXT_TURN = re.compile(r"\n\n(?:System|User|Assistant|Tool)\b[^\n:]*:")


def generate_answers(language_model: LanguageModel, questions: Sequence[Question]) -> list[str]:
    """The answers to the first of `questions`: at most MOST_ANSWERS, within MOST_SECONDS. One that was cut short by the time is
    not among them.
    """
    deadline = time.monotonic() + MOST_SECONDS
    found: list[str] = []
    for question in questions[:MOST_ANSWERS]:
        answer = _generate(language_model, question, deadline)
        if answer is None:
            break
        found.append(answer)
    return found


def compared_with_references(answers: Sequence[str], questions: Sequence[Question]) -> GeneratedAnswers | None:
    """The figures of the answers to the first of `questions`; None without answers."""
    if not answers:
        return None
    pairs = list(zip(answers, questions, strict=False))
    words = [_WORD.findall(answer.lower()) for answer in answers]
    repetitions = [share for one in words if (share := repetition(one)) is not None]
    return GeneratedAnswers(
        answers=len(answers),
        exact_match=sum(max(squad_words(answer) == squad_words(one) for one in asked.references) for answer, asked in pairs)
        / len(pairs),
        f1=sum(max(f1(answer, one) for one in asked.references) for answer, asked in pairs) / len(pairs),
        distinct=(distinct(words, 1), distinct(words, 2), distinct(words, 3)),
        repetition=sum(repetitions) / len(repetitions) if repetitions else None,
    )


def squad_words(text: str) -> list[str]:
    """The words of a text as SQuAD compares them."""
    letters = "".join(letter if letter.isalnum() or letter.isspace() else "" for letter in text.lower())
    return _ARTICLES.sub(" ", letters).split()


def f1(answer: str, reference: str) -> float:
    """The harmonic mean of the shares of common words in both texts."""
    ours, theirs = squad_words(answer), squad_words(reference)
    if not ours or not theirs:
        return float(ours == theirs)
    common = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * common / (len(ours) + len(theirs))


def distinct(texts: Sequence[Sequence[str]], n: int) -> float:
    """The share of distinct sequences of `n` words among all in `texts`; 0 without any."""
    found = [one for words in texts for one in _sequences(words, n)]
    return len(set(found)) / len(found) if found else 0.0


def repetition(words: Sequence[str]) -> float | None:
    """The share of sequences of four words that occurred before; None for fewer than four words."""
    found = _sequences(words, 4)
    return 1 - len(set(found)) / len(found) if found else None


def _sequences(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return list(zip(*(words[start:] for start in range(n)), strict=False))


@torch.no_grad()
def _generate(language_model: LanguageModel, question: Question, deadline: float) -> str | None:
    """The answer; None if there was no time to finish it."""
    model, tokenizer = language_model.model, language_model.tokenizer
    references = tokenizer.encode_batch([question.gap + one for one in question.references])
    block_size = model.config.block_size
    tokens = max(1, min(MOST_TOKENS, block_size // 2, max(map(len, references)) + _ROOM))
    ids = prompt_ids(tokenizer, question.prompt)[-max(1, block_size - tokens) :]
    size, end = len(ids), tokenizer.end_of_text_id
    was_training = model.training
    model.eval()
    logits = next_logits(model)
    while len(ids) < size + tokens:
        if time.monotonic() > deadline:
            model.train(was_training)
            return None
        ids.append(int(logits(ids).argmax()))
        if ids[-1] == end:
            ids.pop()
            break
        if _NEXT_TURN.search(tokenizer.decode(ids[size:])):
            break
    model.train(was_training)
    return _NEXT_TURN.split(tokenizer.decode(ids[size:]))[0].strip()
