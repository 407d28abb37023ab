"""The candidate of a publish against what is published: both read the same held-out text."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from ..checkpoint.folder import ModelFolder
from ..corpus.tokenizer import load_tokenizer
from ..errors import InputError
from ..evaluation.compare import Difference, Ids, Reader, compare
from ..evaluation.loss import HeldOut
from ..hub.client import Hub
from ..hub.fetch import fetch
from ..hub.repo import Remote
from ..inputs import Inputs
from ..report.log import note
from ..training.held_out import read_held_out
from .corpus import corpus_tokens


def difference_to_published(inputs: Inputs, hub: Hub, remote: Remote, model: ModelFolder) -> Difference | None:
    """Of `model` to what `remote` holds; None where there is no held-out text.

    Raises HubError or CheckpointError where what is published can't be looked at.
    """
    windows = _held_out(inputs, model)
    if not windows:
        return None
    with TemporaryDirectory() as folder:
        published = fetch(hub, remote, Path(folder), note).model
        return compare(_reader(model), _reader(published), windows)


def _reader(folder: ModelFolder) -> Reader:
    return Reader(folder.load_model(), load_tokenizer(folder.path))


def _held_out(inputs: Inputs, model: ModelFolder) -> Sequence[Ids]:
    """The text that the checkpoint was evaluated on, which lies with it; else what `data` holds out now."""
    kept = read_held_out(model.path)
    if kept is not None:
        return kept
    try:
        tokens = corpus_tokens(inputs, model)
    except InputError as error:
        note(f"no held-out text by data: {error.message}")
        return []
    return HeldOut(tokens.val, model.config.block_size, inputs.eval_tokens).windows()
