"""Echo fidelity, `evaluate: echo-fidelity`: measured when a model is trained, or published without a figure, and recorded."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import evaluation
from ..checkpoint.model_folder import ModelFolder, record
from ..config.inputs import ECHO_FIDELITY, Inputs
from ..evaluation.held_out import digest_of, read_held_out
from ..hub.cards.fidelity_text import fidelity_text
from ..report.log import note, part, warn
from .publication import Publication

_TOKENS = 32768  # of held-out text, to compare the answers with

Ids = npt.NDArray[np.integer[Any]]


def with_fidelity(
    inputs: Inputs, folder: ModelFolder, val: Callable[[], npt.NDArray[np.unsignedinteger[Any]]], *, keep: bool = True
) -> ModelFolder:
    """The model with its echo fidelity, if `evaluate` asks for it, which its metadata records if `keep`.

    `val` gives the validation split (1-D ids). It is not measured again if the metadata has it for the same text.
    """
    if ECHO_FIDELITY not in inputs.evaluate:
        return folder
    windows = evaluation.HeldOut(val(), folder.config.block_size, _TOKENS).windows()
    known = folder.metadata.fidelity if folder.metadata else None
    return folder if known and known.text == digest_of(windows) else _measured(folder, windows, keep)


def add_fidelity(publication: Publication) -> Publication:
    """Add the echo fidelity of its model to the publication, if `evaluate` asks for it and the model has none.

    A job that has trained the model has tried to measure it already.
    """
    inputs, model = publication.inputs, publication.model
    known = model.metadata is None or model.metadata.fidelity or publication.ending is not None
    if ECHO_FIDELITY not in inputs.evaluate or known:
        return publication
    with part("Echo fidelity"):
        return replace(publication, model=_measured(model, read_held_out(model.path) or (), keep=not inputs.dry_run))


def _measured(folder: ModelFolder, windows: Sequence[Ids], keep: bool) -> ModelFolder:
    found = evaluation.measure_fidelity(evaluation.load_language_model(folder), windows)
    if isinstance(found, str):
        warn(f"echo fidelity was not measured: {found}.")
        return folder
    note(fidelity_text(found))
    if keep:
        return record(folder, overwrite=True, fidelity=found)
    return replace(folder, metadata=folder.metadata.model_copy(update={"fidelity": found})) if folder.metadata else folder
