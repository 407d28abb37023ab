"""Compares two or more models: their losses on the same held-out text, and samples from the same prompts."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from ..checkpoint.model_folder import WEIGHTS_FILE, ModelFolder
from ..checkpoint.question_facts import QuestionComparison, QuestionFacts
from ..corpus.tokenizer import Tokenizer
from .generation import prompt_ids, sample_ids
from .paired_bootstrap import Difference, Ids, Scores, difference, load_language_model, score
from .prompts import corpus_prompts
from .questions.ask import ask_questions
from .questions.question_set import QuestionSet
from .questions.sign_flip_test import compare_on_questions

SAMPLE_TOKENS, _TEMPERATURE, _SEED = 60, 0.8, 0
_PROMPTS = 2


@dataclass(frozen=True)
class RankedModel:
    """A candidate and its results. `name` is the name that the user gave, `place` its exact source; `size` is in bytes.

    `url` is its page on the Hub, empty for a local one.

    `texts` are samples, one for each prompt, generated at `tokens_per_second`. `asked` are its scores on questions, None if
    it was not asked any.
    """

    name: str
    place: str
    step: int
    architecture: str
    tokenizer: str
    parameters: int
    size: int
    scores: Scores
    texts: tuple[str, ...]
    tokens_per_second: float
    url: str = ""
    asked: QuestionFacts | None = None


@dataclass(frozen=True)
class Ranking:
    """The results of a comparison. `held_out` describes the held-out text.

    `differences` are those of each model but the first from the first. `winner` is the model that is significantly better than
    every other: the 95 % confidence interval of each difference is below zero. None if there is no such model.
    """

    held_out: str
    prompts: tuple[str, ...]
    models: tuple[RankedModel, ...]
    differences: tuple[Difference, ...]
    winner: RankedModel | None

    @property
    def question_differences(self) -> tuple[QuestionComparison, ...]:
        """Those of each model but the first from the first, on questions; empty if the models were not asked any."""
        first, *others = (model.asked for model in self.models)
        return tuple(compare_on_questions(other, first, self.models[0].name) for other in others if other and first)


def prompts_from(windows: Sequence[Ids], tokenizer: Tokenizer) -> tuple[str, ...]:
    """The empty prompt, and the first words of held-out documents."""
    return ("", *corpus_prompts(windows, tokenizer, max(map(len, windows)), _PROMPTS))


def evaluate_model(
    name: str,
    place: str,
    folder: ModelFolder,
    windows: Sequence[Ids],
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    questions: QuestionSet | None = None,
) -> RankedModel:
    """Sample from a model, compute its losses on `windows` (1-D ids of `tokenizer`, not necessarily the model's own), and ask
    it the questions, if any count.
    """
    loaded = load_language_model(folder)
    model, own = loaded.model, loaded.tokenizer
    prompts_as_ids = [prompt_ids(own, prompt) for prompt in prompts]
    sample_ids(model, prompts_as_ids[0], None, 1, _TEMPERATURE, _SEED)  # warm-up: the first step of a process is slower
    started = time.perf_counter()
    samples = [sample_ids(model, ids, own.end_of_text_id, SAMPLE_TOKENS, _TEMPERATURE, _SEED) for ids in prompts_as_ids]
    seconds = time.perf_counter() - started
    return RankedModel(
        name=name,
        place=place,
        step=folder.step,
        architecture=folder.architecture.name,
        tokenizer=own.name,
        parameters=model.parameter_count(),
        size=(folder.path / WEIGHTS_FILE).stat().st_size,
        scores=score(loaded, windows, tokenizer),
        texts=tuple(own.decode(ids) for ids in samples),
        tokens_per_second=sum(map(len, samples)) / seconds,
        asked=ask_questions(loaded, questions, generates=True) if questions and questions.counted else None,
    )


def rank(held_out: str, prompts: tuple[str, ...], models: Sequence[RankedModel]) -> Ranking:
    """Compare all models and find the winner. `held_out` describes the held-out text."""
    first, *others = models
    best, *rest = sorted(models, key=lambda model: model.scores.bits_per_byte)
    better = [difference(best.scores, other.scores).high < 0 for other in rest]
    return Ranking(
        held_out=held_out,
        prompts=prompts,
        models=tuple(models),
        differences=tuple(difference(other.scores, first.scores) for other in others),
        winner=best if all(better) else None,
    )
