"""The check that stock transformers computes what the model computes: nothing is published without it."""

from dataclasses import replace

from .. import evaluation
from ..checkpoint.metadata import ParityFacts, parity_text
from ..checkpoint.model_folder import ModelFolder, record
from ..hub.fetch import read_facts
from ..report.log import note
from .publication import Publication


def check_parity(publication: Publication) -> Publication:
    """With the parity of the model, which is recorded in its metadata, as the comparison of the gate is.

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
    parity = known.parity if known and known.parity else _measure(model)
    if not dry_run:
        if known:
            model = record(model, overwrite=True, parity=known.parity, compared=known.compared, dataset=known.dataset)
        model = record(model, parity=parity)
        model = record(model, overwrite=True, compared=publication.verdict.compared)
    return replace(publication, model=model, measured=parity, parity_is_current=is_current)


def check_parity_again(publication: Publication) -> Publication:
    """Measure the parity if this run has not: anything that is sent is first loaded with transformers."""
    if publication.parity_is_current:
        return publication
    return replace(publication, measured=_measure(publication.model), parity_is_current=True)


def _measure(model: ModelFolder) -> ParityFacts:
    parity = evaluation.check_parity(model)
    note(f"stock transformers loads {model.path}: {parity_text(parity)}")
    return parity
