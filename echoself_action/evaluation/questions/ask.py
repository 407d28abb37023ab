"""Asks a model questions: the figures for its metadata, with its preference by question for comparisons."""

from collections import defaultdict
from collections.abc import Sequence

from ...checkpoint.question_facts import GeneratedAnswers, QuestionFacts
from ..paired_bootstrap import LanguageModel
from .answer_scores import score_questions
from .generated_answers import compared_with_references, generate_answers
from .question_results import QuestionResult, summarised
from .question_set import QuestionSet


def ask_questions(language_model: LanguageModel, asked: QuestionSet, *, generates: bool = False) -> QuestionFacts:
    """Ask a model the questions of `asked`, of which at least one must count. `generates`: answers are generated too.

    Raises InputError or TokenizerError for text that its tokenizer can't encode.
    """
    scores = score_questions(language_model, asked.questions)
    counted = tuple(one for one in scores.results if not one.is_trained_on)
    seen = [one for one in scores.results if one.is_trained_on]
    return QuestionFacts(
        digest=asked.digest,
        sources=list(asked.sources),
        scores=summarised(counted),
        by_dimension={name: summarised(some) for name, some in sorted(_by_dimension(counted).items())},
        preferences=tuple(one.preference for one in counted),
        in_training=len(seen),
        in_training_scores=summarised(seen) if seen else None,
        left_out=asked.left_out,
        cut_prompts=scores.cut_prompts,
        long_answers=scores.long_answers,
        generated=_generated(language_model, asked) if generates else None,
    )


def _generated(language_model: LanguageModel, asked: QuestionSet) -> GeneratedAnswers | None:
    return compared_with_references(generate_answers(language_model, asked.counted), asked.counted)


def _by_dimension(results: Sequence[QuestionResult]) -> dict[str, list[QuestionResult]]:
    """The results of each persona dimension; empty if no question names one."""
    found: dict[str, list[QuestionResult]] = defaultdict(list)
    for one in results:
        found[one.dimension or "none named"].append(one)
    return dict(found) if any(one.dimension for one in results) else {}
