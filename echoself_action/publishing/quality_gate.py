"""The quality gate of a publish: the candidate is compared with the published model on the same held-out text."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from .. import evaluation
from ..checkpoint.metadata import Metadata
from ..checkpoint.model_folder import WEIGHTS_FILE, ModelFolder
from ..config.inputs import Inputs
from ..errors import InputError
from ..evaluation.gate import Verdict, is_relative, judge_difference, judge_loss
from ..evaluation.held_out import read_held_out
from ..hub.endpoint import Hub
from ..hub.fetch import fetch, read_facts
from ..hub.repo import Remote, same_content
from ..report.log import note, part
from ..starting.tokenize_corpus import corpus_tokens

if TYPE_CHECKING:
    from ..evaluation.paired_bootstrap import Difference, Ids


def verdict_on(inputs: Inputs, hub: Hub, remote: Remote, model: ModelFolder) -> Verdict:
    """What the gate says of `model`. Raises HubError or CheckpointError where what is published can't be looked at."""
    if not is_relative(inputs.gate):
        return judge_loss(inputs.gate, model)
    if remote.model is None or not remote.model.has_model:
        return Verdict(True, "it is the first to be published")
    if is_published(model, remote):
        return Verdict(True, "these weights are the published ones")
    with part("Comparing"):
        difference = difference_to_published(inputs, hub, remote, model)
        if difference is None:
            return Verdict(False, "there is no held-out text to compare it on: neither with the checkpoint nor by `data`")
        verdict = judge_difference(inputs.gate, difference, remote.model.commit)
        note(f"gate {inputs.gate}: {verdict.reason}")
    return verdict


def published_facts(hub: Hub, remote: Remote, model: ModelFolder) -> Metadata | None:
    """What was published with these very weights; None where others are. Publishing them again with it changes nothing."""
    return read_facts(hub, remote.repo_id, remote.model) if remote.model and is_published(model, remote) else None


def is_published(model: ModelFolder, remote: Remote) -> bool:
    """Whether these very weights are what the revision holds."""
    published = remote.model.files.get(WEIGHTS_FILE) if remote.model else None
    return published is not None and same_content(model.path / WEIGHTS_FILE, published)


def difference_to_published(inputs: Inputs, hub: Hub, remote: Remote, model: ModelFolder) -> "Difference | None":
    """Of `model` to what `remote` holds; None where there is no held-out text.

    Raises HubError or CheckpointError where what is published can't be looked at.
    """
    windows = _held_out(inputs, model)
    if not windows:
        return None
    with TemporaryDirectory() as folder:
        published = fetch(hub, remote, Path(folder), note).model
        return evaluation.compare(evaluation.reader_of(model), evaluation.reader_of(published), windows)


def _held_out(inputs: Inputs, model: ModelFolder) -> "Sequence[Ids]":
    """The text that the checkpoint was evaluated on, which lies with it; else what `data` holds out now."""
    kept = read_held_out(model.path)
    if kept is not None:
        return kept
    try:
        tokens = corpus_tokens(inputs, model)
    except InputError as error:
        note(f"no held-out text by data: {error.message}")
        return []
    return evaluation.HeldOut(tokens.val, model.config.block_size, inputs.eval_tokens).windows()
