"""How a model answers the questions of the input `evaluate`: measured, recorded, and judged against the published model."""

import time
from collections.abc import Callable
from dataclasses import replace

from .. import evaluation
from ..checkpoint.metadata import Metadata
from ..checkpoint.model_folder import ModelFolder, record
from ..checkpoint.question_facts import QuestionFacts, questions_text
from ..corpus.tokens import Tokens
from ..errors import EchoselfError
from ..evaluation.gate import QuestionVerdict, is_relative, judge_questions
from ..evaluation.questions.question_set import QuestionSet
from ..evaluation.questions.sign_flip_test import compare_on_questions
from ..hub.fetch import read_facts
from ..report.log import note, part
from ..starting.load_questions import load_questions
from ..starting.tokenize_corpus import corpus_tokens
from .publication import Publication


def with_questions(folder: ModelFolder, asked: QuestionSet | None, *, keep: bool = True) -> ModelFolder:
    """The model with its scores on the questions, which its metadata records if `keep`, unless it has them already.

    As it is without questions, or if all of them are in the training text.
    """
    known = folder.metadata.questions if folder.metadata else None
    if asked is None or not asked.counted or (known and known.digest == asked.digest):
        return folder
    started = time.monotonic()
    facts = evaluation.ask_questions(evaluation.load_language_model(folder), asked, generates=True)
    note(f"{questions_text(facts)}, in {time.monotonic() - started:.0f} s")
    if keep:
        return record(folder, overwrite=True, questions=facts)
    return replace(folder, metadata=folder.metadata.model_copy(update={"questions": facts})) if folder.metadata else folder


def add_questions(publication: Publication) -> Publication:
    """Add the questions of `evaluate` to the publication, and the scores of its model."""
    inputs = publication.inputs
    if not inputs.question_sources:
        return publication
    with part("Questions"):
        if publication.questions:
            asked, has_corpus = publication.questions, True
        else:
            tokens = _tokens(publication)
            asked, has_corpus = load_questions(inputs, tokens), tokens is not None
        facts, model = publication.model.metadata, publication.model
        if has_corpus or not (facts and facts.questions):
            model = with_questions(model, asked, keep=not inputs.dry_run)
        else:
            note("the model keeps the scores of its training, for which the training text was searched for the questions")
    return replace(publication, questions=asked, model=model)


def question_verdict(publication: Publication, published: Callable[[], ModelFolder]) -> QuestionVerdict | None:
    """The verdict of `evaluate_gate`; None without that input. `published` fetches the published model.

    A model that records scores of other questions than those of today is asked these.
    """
    gate, asked, remote = publication.inputs.evaluate_gate, publication.questions, publication.remote.model
    if gate == "none" or asked is None:
        return None
    if not asked.counted:
        return QuestionVerdict(False, "all questions are in the training text, so they show nothing")
    if is_relative(gate):
        if remote is None or not remote.has_model:
            return QuestionVerdict(True, "it is the first to be published")
        if publication.is_same_model:
            return QuestionVerdict(True, "its weights are already published")
    ours = _scores(publication.model.metadata, asked, lambda: publication.model)
    if not is_relative(gate):
        return judge_questions(gate, ours.scores)
    assert remote

    def fetched() -> ModelFolder:
        note("the published model records no scores on the questions of today: it is asked them")
        return published()

    theirs = _scores(read_facts(publication.hub, publication.remote.repo_id, remote), asked, fetched)
    return judge_questions(gate, ours.scores, compare_on_questions(ours, theirs, remote.commit))


def _scores(known: Metadata | None, asked: QuestionSet, model: Callable[[], ModelFolder]) -> QuestionFacts:
    """The recorded scores of a model, if they are of the questions of today; otherwise it is asked them."""
    facts = known.questions if known else None
    if facts and facts.digest == asked.digest and len(facts.preferences) == len(asked.counted):
        return facts
    return evaluation.ask_questions(evaluation.load_language_model(model()), asked)


def with_question_facts(model: ModelFolder, known: Metadata | None, verdict: QuestionVerdict | None) -> ModelFolder:
    """The model with the comparison of `verdict` in its metadata. Weights that are already published, with the metadata
    `known`, keep the scores published with them, if the questions are the same.
    """
    ours = model.metadata.questions if model.metadata else None
    if known and known.questions and (ours is None or ours.digest == known.questions.digest):
        return record(model, overwrite=True, questions=known.questions)
    if ours is None or verdict is None or verdict.compared is None:
        return model
    return record(model, overwrite=True, questions=ours.model_copy(update={"compared": verdict.compared}))


def _tokens(publication: Publication) -> Tokens | None:
    """The corpus, to find questions in its training text; None if it is not at hand."""
    try:
        return corpus_tokens(publication.inputs, publication.model)
    except EchoselfError as error:
        note(f"no corpus: {error.message}")
        return None
