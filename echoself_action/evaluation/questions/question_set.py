"""Questions with references (expected answers) and distractors, and the digest by which sets of them are comparable.

Distractors that the user does not give are references of other questions, chosen by a hash: the same in every run, on every
machine and for every model. This module does not load PyTorch.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

DISTRACTORS = 3  # for each question, if the user gives none
_SIMILAR = 2.0  # ratio of the lengths of two answers


@dataclass(frozen=True)
class Question:
    """`prompt`, then `gap` (white space), then an answer: as the training text has such a record.

    `ask` is what the user says, without a system prompt and names of speakers. `place` is where it is from, as "path:line".
    `is_trained_on`: the training text has the prompt and a reference.
    """

    prompt: str
    gap: str
    references: tuple[str, ...]
    distractors: tuple[str, ...] = ()
    ask: str = ""
    dimension: str = ""
    place: str = ""
    is_trained_on: bool = False

    @property
    def answers(self) -> tuple[str, ...]:
        """The references, then the distractors."""
        return (*self.references, *self.distractors)

    @property
    def key(self) -> str:
        """A hash of what is asked and of the references."""
        return _hash([self.prompt, self.gap, *sorted(self.references)])


@dataclass(frozen=True)
class QuestionSet:
    """The questions to ask, in the order of their hash. `sources` are those of the input, `left_out` the number of further
    questions beyond the limit.
    """

    questions: tuple[Question, ...]
    sources: tuple[str, ...]
    left_out: int = 0

    @property
    def counted(self) -> tuple[Question, ...]:
        """Those of the score: not in the training text."""
        return tuple(one for one in self.questions if not one.is_trained_on)

    @property
    def digest(self) -> str:
        """A hash of the counted questions with all their answers: the scores of two models with the same one are comparable."""
        return _hash(sorted(_hash([one.key, *one.distractors]) for one in self.counted))


def question_set(questions: Sequence[Question], sources: Sequence[str], limit: int) -> QuestionSet:
    """At most `limit` questions (0: all), those with the smallest hash, so that a set that grows mostly keeps its questions.

    Questions with the same prompt are one, with the references of all. Raises ValueError if a question has no distractors, and
    there is no other question to take one from.
    """
    merged: dict[str, Question] = {}
    for one in questions:
        known = merged.get(one.prompt)
        if known:
            references = tuple(dict.fromkeys((*known.references, *one.references)))
            distractors = tuple(dict.fromkeys((*known.distractors, *one.distractors)))
            one = replace(known, references=references, distractors=distractors)
        merged[one.prompt] = one
    ordered = sorted(merged.values(), key=lambda one: one.key)
    kept = ordered[:limit] if limit else ordered
    pool = [(answer, other) for other in kept for answer in other.references]
    asked = tuple(_with_distractors(one, pool) for one in kept)
    return QuestionSet(asked, tuple(sources), len(ordered) - len(kept))


def _with_distractors(question: Question, pool: Sequence[tuple[str, Question]]) -> Question:
    """The question with its own distractors; if it has none, with the references of other questions.

    Those of the same persona dimension come first, then those of a similar length.
    """
    own = {normalised(answer) for answer in question.references}
    given = tuple(answer for answer in question.distractors if normalised(answer) not in own)
    if given:
        return replace(question, distractors=given)
    ask, size = normalised(question.ask), len(question.references[0])

    def rank(candidate: tuple[str, Question]) -> tuple[bool, float, str]:
        answer, other = candidate
        ratio = max(len(answer), size) / max(min(len(answer), size), 1)
        is_similar = ratio <= _SIMILAR
        return other.dimension != question.dimension, 0.0 if is_similar else ratio, _hash([question.key, answer])

    found: dict[str, str] = {}
    for answer, _ in sorted((one for one in pool if normalised(one[1].ask) != ask), key=rank):
        if len(found) == DISTRACTORS:
            break
        if normalised(answer) not in own:
            found.setdefault(normalised(answer), answer)
    if not found:
        raise ValueError(f"{question.place} has no distractors, and there is no other question with another answer")
    return replace(question, distractors=tuple(found.values()))


def normalised(text: str) -> str:
    """The text with single spaces in place of white space."""
    return " ".join(text.split())


def _hash(parts: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(list(parts)).encode()).hexdigest()
