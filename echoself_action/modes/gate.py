"""The gate of a publish: the candidate beside what is published, on the same held-out text."""

from ..checkpoint.folder import WEIGHTS_FILE, ModelFolder
from ..checkpoint.metadata import Metadata
from ..evaluation.gate import Verdict, is_relative, judge_difference, judge_loss
from ..hub.checksum import same_content
from ..hub.client import Hub
from ..hub.fetch import read_facts
from ..hub.repo import Remote
from ..inputs import Inputs
from ..report.log import note, part


def verdict_on(inputs: Inputs, hub: Hub, remote: Remote, model: ModelFolder) -> Verdict:
    """What the gate says of `model`. Raises HubError or CheckpointError where what is published can't be looked at."""
    if not is_relative(inputs.gate):
        return judge_loss(inputs.gate, model)
    if remote.model is None or not remote.model.has_model:
        return Verdict(True, "it is the first to be published")
    if is_published(model, remote):
        return Verdict(True, "these weights are the published ones")
    with part("Comparing"):
        from .against import difference_to_published  # loads PyTorch: only where two models are compared

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
