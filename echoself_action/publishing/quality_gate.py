"""What a model must pass before it is published: the quality gate, and the parity check with stock transformers.

The gate compares it with the published model on the same held-out text, and on the same questions if `evaluate_gate` asks for
it; the check compares its logits with transformers'.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from .. import evaluation
from ..checkpoint.metadata import ParityFacts, parity_text
from ..checkpoint.model_folder import ModelFolder, record
from ..checkpoint.select import best
from ..errors import InputError
from ..evaluation.gate import Verdict, is_relative, judge_difference, judge_loss
from ..evaluation.held_out import read_held_out
from ..hub.fetch import fetch, read_facts
from ..report.log import note, part
from ..starting.tokenize_corpus import corpus_tokens
from .publication import Publication
from .question_scores import question_verdict, with_question_facts

if TYPE_CHECKING:
    from ..evaluation.paired_bootstrap import Ids


def judge(publication: Publication) -> Publication:
    """Apply the gate. A job that has trained rolls its run back if its model is significantly worse than the published one that
    it continues.

    Raises HubError or CheckpointError if the published model can't be read.
    """
    verdict = _verdict(publication)
    publication = replace(publication, verdict=verdict)
    if verdict.passed or not publication.remote.model or not publication.remote.model.has_model:
        return publication
    if not _continues_published(publication):
        note("the training state is not published, because the published model is of another run")
        return replace(publication, is_other_run=True)
    if not verdict.significantly_worse or publication.ending == "rolled_back" or not publication.roll_back:
        return publication
    reason = f"its best model is {verdict.reason}"
    kept = publication.roll_back(reason)
    model = best(publication.inputs.output_dir) or publication.model
    return replace(publication, ending="rolled_back", reason=reason, resumable=kept, model=model)


def _continues_published(publication: Publication) -> bool:
    """Whether the model is of the same run as the published one. Another one may still be behind it."""
    published, ours = publication.remote.model, publication.model.metadata
    theirs = read_facts(publication.hub, publication.remote.repo_id, published) if published else None
    return ours is not None and theirs is not None and ours.run_id == theirs.run_id


def check_parity(publication: Publication) -> Publication:
    """Check the parity of the model with transformers, and record it and the comparison of the gate in the metadata.

    Weights that are already published keep the facts published with them, so that publishing them again changes nothing.
    Raises CheckpointError if transformers does not compute the same.
    """
    model, remote, dry_run = publication.model, publication.remote, publication.inputs.dry_run
    known = None
    if not dry_run and remote.model and publication.is_same_model:
        known = read_facts(publication.hub, remote.repo_id, remote.model)
    is_current = not (known and known.parity)
    if model.architecture.code_files:
        name = model.architecture.display_name
        note(f"loading this model requires trust_remote_code=True: {name} is not an architecture of transformers")
    parity = known.parity if known and known.parity else _measure_parity(model)
    if not dry_run:
        if known:
            facts = {"parity": known.parity, "compared": known.compared, "dataset": known.dataset, "sample": known.sample}
            model = record(model, overwrite=True, **facts)
        model = record(model, parity=parity)
        model = record(model, overwrite=True, compared=publication.verdict.compared)
        model = with_question_facts(model, known, publication.verdict.questions)
    return replace(publication, model=model, measured=parity, parity_is_current=is_current)


def check_parity_again(publication: Publication) -> Publication:
    """Measure the parity unless this run has: a model is loaded with transformers before anything is uploaded."""
    if publication.parity_is_current:
        return publication
    return replace(publication, measured=_measure_parity(publication.model), parity_is_current=True)


def _verdict(publication: Publication) -> Verdict:
    """The verdict on the loss of the model; if it passes, with that on its answers to questions."""
    with ExitStack() as stack:

        @cache
        def fetch_published() -> ModelFolder:
            folder = stack.enter_context(TemporaryDirectory())
            return fetch(publication.hub, publication.remote, Path(folder), note).model

        verdict = _loss_verdict(publication, fetch_published)
        if verdict.passed and (questions := question_verdict(publication, fetch_published)):
            note(f"evaluate_gate {publication.inputs.evaluate_gate}: {questions.reason}")
            verdict = replace(verdict, questions=questions)
    return verdict


def _loss_verdict(publication: Publication, fetch_published: Callable[[], ModelFolder]) -> Verdict:
    gate, published = publication.inputs.gate, publication.remote.model
    if not is_relative(gate):
        return judge_loss(gate, publication.model)
    if published is None or not published.has_model:
        if publication.ending == "rolled_back":
            return Verdict(False, f"the run was rolled back: {publication.reason}")
        return Verdict(True, "it is the first to be published")
    if publication.is_same_model:
        return Verdict(True, "its weights are already published")
    with part("Comparing"):
        windows = _held_out(publication)
        if not windows:
            return Verdict(False, "there is no held-out text to compare on: neither with the checkpoint nor from `data`")
        ours, theirs = (evaluation.load_language_model(one) for one in (publication.model, fetch_published()))
        verdict = judge_difference(gate, evaluation.compare(ours, theirs, windows), published.commit)
        note(f"gate {gate}: {verdict.reason}")
    return verdict


def _held_out(publication: Publication) -> "Sequence[Ids]":
    """The text that the checkpoint was evaluated on, kept beside it; else what `data` now holds out."""
    inputs, model = publication.inputs, publication.model
    kept = read_held_out(model.path)
    if kept is not None:
        return kept
    try:
        tokens = corpus_tokens(inputs, model)
    except InputError as error:
        note(f"no held-out text from data: {error.message}")
        return []
    return evaluation.HeldOut(tokens.val, model.config.block_size, inputs.eval_tokens).windows()


def _measure_parity(model: ModelFolder) -> ParityFacts:
    parity = evaluation.check_parity(model)
    note(f"stock transformers loads {model.path}: {parity_text(parity)}")
    return parity
