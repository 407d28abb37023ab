"""The quality gate of a publish: the model is compared with the published one on the same held-out text."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from .. import evaluation
from ..errors import InputError
from ..evaluation.gate import Verdict, is_relative, judge_difference, judge_loss
from ..evaluation.held_out import read_held_out
from ..hub.fetch import fetch
from ..report.log import note, part
from ..starting.tokenize_corpus import corpus_tokens
from .publication import Publication

if TYPE_CHECKING:
    from ..evaluation.paired_bootstrap import Ids


def judge(publication: Publication) -> Publication:
    """With the verdict of the gate. Raises HubError or CheckpointError if the published model can't be read."""
    return replace(publication, verdict=_verdict(publication))


def _verdict(publication: Publication) -> Verdict:
    gate, published = publication.inputs.gate, publication.remote.model
    if not is_relative(gate):
        return judge_loss(gate, publication.model)
    if published is None or not published.has_model:
        return Verdict(True, "it is the first to be published")
    if publication.is_same_model:
        return Verdict(True, "its weights are already published")
    with part("Comparing"):
        windows = _held_out(publication)
        if not windows:
            return Verdict(False, "there is no held-out text to compare on: neither with the checkpoint nor from `data`")
        with TemporaryDirectory() as folder:
            theirs = fetch(publication.hub, publication.remote, Path(folder), note).model
            ours = evaluation.load_language_model(publication.model)
            verdict = judge_difference(
                gate, evaluation.compare(ours, evaluation.load_language_model(theirs), windows), published.commit
            )
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
