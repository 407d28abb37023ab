"""The gate of a publish: the candidate beside what is published, on the same held-out text."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from ..checkpoint.folder import WEIGHTS_FILE, ModelFolder
from ..corpus.tokenizer import load_tokenizer
from ..errors import InputError
from ..evaluation.compare import Ids, Reader, compare
from ..evaluation.gate import Verdict, is_relative, judge_difference, judge_loss
from ..evaluation.loss import HeldOut
from ..hub.checksum import same_content
from ..hub.client import Hub
from ..hub.fetch import fetch, read_facts
from ..hub.repo import Remote
from ..inputs import Inputs
from ..report.log import note, part
from ..training.held_out import read_held_out
from .corpus import corpus_tokens


def verdict_on(inputs: Inputs, hub: Hub, remote: Remote, model: ModelFolder) -> Verdict:
    """What the gate says of `model`. Raises HubError or CheckpointError where what is published can't be looked at."""
    if not is_relative(inputs.gate):
        return judge_loss(inputs.gate, model)
    if remote.model is None or not remote.model.has_model:
        return Verdict(True, "nothing is published yet")
    if is_published(model, remote):
        return Verdict(True, "these weights are the published ones")
    with part("Comparing"):
        windows = _held_out(inputs, model)
        if not windows:
            return Verdict(False, "there is no held-out text to compare it on: neither with the checkpoint nor by `data`")
        with TemporaryDirectory() as folder:
            published = fetch(hub, remote, Path(folder), note).model
            difference = compare(_reader(model), _reader(published), windows)
        verdict = judge_difference(inputs.gate, difference, remote.model.commit)
        note(f"gate {inputs.gate}: {verdict.reason}")
    return verdict


def known_of(hub: Hub, remote: Remote, model: ModelFolder) -> dict[str, object]:
    """The figures that were published with these very weights, so that publishing them again changes nothing."""
    facts = read_facts(hub, remote.repo_id, remote.model) if remote.model and is_published(model, remote) else None
    return {name: getattr(facts, name) for name in ("parity", "compared", "dataset")} if facts else {}


def is_published(model: ModelFolder, remote: Remote) -> bool:
    """Whether these very weights are what the revision holds."""
    published = remote.model.files.get(WEIGHTS_FILE) if remote.model else None
    return published is not None and same_content(model.path / WEIGHTS_FILE, published)


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
