"""The log-likelihoods of the answers to questions: after the prompt, and without it.

The tokens of an answer are those of prompt and answer together, as in training, after the tokens that they share with the
prompt alone. White space between the two belongs to the answer, because most tokenizers join it to the first word.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from ...corpus.tokenizer import Tokenizer
from ...model import Model
from ...native.models import evaluated_natively
from ..generation import prompt_ids
from ..paired_bootstrap import LanguageModel
from .question_results import QuestionResult
from .question_set import Question

_TOKENS_AT_ONCE, _LOGITS_AT_ONCE = 8192, 1 << 26  # to limit memory
_SPEAKER = re.compile(r"(?:^|\n)(Assistant(?: \([^\n]*\))?:)$")

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class AnswerScores:
    """The results by question. `cut_prompts` counts questions whose prompt was cut at its start, to fit into the context with
    the answer; `long_answers` answers that were scored in parts, because they do not fit with some of their prompt.
    """

    results: tuple[QuestionResult, ...]
    cut_prompts: int
    long_answers: int


@dataclass(frozen=True)
class _Window:
    """Ids of which the last `predicted` are scored. They count for the answer number `owner`."""

    ids: Ids
    predicted: int
    owner: int


class _Answers:
    """Answers after contexts, each pair once, in windows that fit into the context length of a model."""

    def __init__(self, tokenizer: Tokenizer, block_size: int, label_shift: int) -> None:
        self._tokenizer, self._block_size, self._shift = tokenizer, block_size, label_shift
        self._numbers: dict[tuple[str, str], int] = {}

    def number(self, context: str, answer: str) -> int:
        """The number of this answer (with the white space before it) after `context`."""
        return self._numbers.setdefault((context, answer), len(self._numbers))

    def windows(self) -> tuple[list[_Window], set[int], set[int]]:
        """The windows; and the numbers of answers whose context was cut, and that are in several windows."""
        pairs = list(self._numbers)
        whole = self._tokenizer.encode_batch([context + answer for context, answer in pairs])
        contexts = list(dict.fromkeys(context for context, _ in pairs))
        alone = dict(zip(contexts, self._tokenizer.encode_batch(contexts), strict=True))
        start = prompt_ids(self._tokenizer, "")[:1] * self._shift  # the start of a document
        found: list[_Window] = []
        cut, several = set(), set()
        for owner, ((context, _), ids) in enumerate(zip(pairs, whole, strict=True)):
            shared = _common(alone[context], ids)
            row = np.concatenate([start, ids]).astype(np.int64)
            size = len(row) - len(start) - shared
            most = max(1, self._block_size * 3 // 4)  # tokens of an answer that is scored as a whole
            part = size if size <= most else max(1, self._block_size // 2)
            for end in range(len(row) - size + part, len(row) + part, part) if size else ():
                last = min(end, len(row))
                first = max(0, last - self._block_size - 1)
                found.append(_Window(row[first:last], last - (end - part), owner))
                if first > 0:
                    cut.add(owner)
            if size > part:
                several.add(owner)
        return found, cut, several


def score_questions(language_model: LanguageModel, questions: Sequence[Question]) -> AnswerScores:
    """The likelihoods of the answers to `questions`. Raises InputError or TokenizerError for text without ids."""
    model = language_model.model
    answers = _Answers(language_model.tokenizer, model.config.block_size, model.label_shift)
    given = [[answers.number(one.prompt, one.gap + answer) for answer in one.answers] for one in questions]
    alone = [[answers.number(_speaker_of(one.prompt), one.gap + answer) for answer in one.answers] for one in questions]
    windows, cut, several = answers.windows()
    logs = -_losses(model, windows)
    results = tuple(
        QuestionResult(
            given_prompt=logs[after],
            alone=logs[without],
            bytes=np.array([len((one.gap + answer).encode()) for answer in one.answers], np.float64),
            references=len(one.references),
            dimension=one.dimension,
            is_trained_on=one.is_trained_on,
        )
        for one, after, without in zip(questions, given, alone, strict=True)
    )
    asked = {number for numbers in given for number in numbers}
    prompts_cut = sum(any(number in cut - several for number in numbers) for numbers in given)
    return AnswerScores(results, prompts_cut, len(asked & several))


def _speaker_of(prompt: str) -> str:
    """What is left of a prompt for an answer without a question: the name of the speaker, in a chat."""
    found = _SPEAKER.search(prompt)
    return found[1] if found else ""


def _common(first: npt.NDArray[np.unsignedinteger], second: npt.NDArray[np.unsignedinteger]) -> int:
    """The length of the common start of two arrays of ids, of which the second must have one id more."""
    size = min(len(first), len(second) - 1)
    different = np.flatnonzero(first[:size] != second[:size])
    return int(different[0]) if len(different) else max(size, 0)


@torch.no_grad()
def _losses(model: Model, windows: Sequence[_Window]) -> npt.NDArray[np.float64]:
    """The summed negative log-likelihood in nats by the number of the answer.

    Windows of similar lengths are computed together, padded at their end: what follows does not change what is before it. A
    legacy NanEcho is not causal, so it gets only windows of the same length at a time.
    """
    result = np.zeros(max((one.owner for one in windows), default=-1) + 1)
    pads, vocabulary = not getattr(model.config, "legacy", False), model.config.vocab_size
    device, shift = next(model.parameters()).device, model.label_shift
    was_training, native = model.training, evaluated_natively(model)
    model.eval()
    left = sorted(windows, key=lambda one: len(one.ids))
    while left:
        longest = len(left[-1].ids) - 1
        at_once = max(1, min(_TOKENS_AT_ONCE, _LOGITS_AT_ONCE // vocabulary) // max(longest, 1))
        batch = [one for one in left[-at_once:] if pads or len(one.ids) - 1 == longest]
        left = left[: len(left) - len(batch)]
        if longest < shift:
            continue  # nothing to predict
        rows = np.zeros((len(batch), longest + 1), np.int64)
        for row, one in zip(rows, batch, strict=True):
            row[: len(one.ids)] = one.ids
        both = torch.from_numpy(rows).to(device)
        ids, targets = both[:, :-1].contiguous(), both[:, 1:].contiguous()
        losses = native.losses(ids, targets) if native else model.loss(ids, targets, reduction="none")
        table = losses.view(len(batch), -1).double().cpu().numpy()  # the first `shift` ids of a row are not predicted
        for row, one in zip(table, batch, strict=True):
            end = len(one.ids) - shift
            result[one.owner] += row[max(0, end - one.predicted) : end].sum()
    model.train(was_training)
    return result
