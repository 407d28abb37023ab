"""The sample that a model is shown with: in the log, the job summary, report.html and the model card."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from .. import evaluation
from ..checkpoint.metadata import Sample
from ..checkpoint.model_folder import ModelFolder, record
from ..errors import EchoselfError
from ..evaluation.prompts import Ids, prompt_of
from ..hub.secrets import find_secrets, without_secrets
from ..report.log import note
from ..starting.tokenize_corpus import corpus_tokens
from .publication import Publication


def with_sample(
    folder: ModelFolder, held_out: Callable[[], Sequence[Ids]] = tuple, *, keep: bool = True
) -> tuple[ModelFolder, Sample]:
    """A sample of the model, which its metadata records if `keep`: another job then shows the same one, without computing it.

    `held_out` gives the held-out text of its corpus, for a model that records no prompt and has none beside it. Neither the
    prompt nor what the model generates has anything that looks like a secret.
    """
    prompt = prompt_of(folder, held_out, lambda text: not find_secrets(text))
    recorded = folder.metadata.sample if folder.metadata else None
    if recorded and recorded.prompt == prompt.prompt:
        return folder, recorded
    text = without_secrets(prompt.prompt + evaluation.sample_from(folder, prompt.prompt))
    if not text.startswith(prompt.prompt):  # prompt and continuation together look like one
        text = prompt.prompt
    sample = prompt.model_copy(update={"continuation": text.removeprefix(prompt.prompt)})
    return (record(folder, overwrite=True, sample=sample) if keep else folder), sample


def add_sample(publication: Publication) -> Publication:
    """Add a sample of the model to the publication."""
    model, sample = with_sample(publication.model, lambda: _held_out(publication), keep=not publication.inputs.dry_run)
    return replace(publication, model=model, sample=sample)


def _held_out(publication: Publication) -> Sequence[Ids]:
    """What `data` holds out, if the user has set it: a model from elsewhere was hardly trained on the default."""
    inputs = publication.inputs
    if "data" not in inputs.model_fields_set:
        return ()
    try:
        return (corpus_tokens(inputs, publication.model).val,)
    except EchoselfError as error:
        note(f"no prompt from data: {error.message}")
        return ()
