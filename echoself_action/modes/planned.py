"""What a publish is to change: the files of each branch of the model's repo, looked through before anything is sent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..checkpoint.folder import ModelFolder
from ..checkpoint.metadata import ParityFacts
from ..hub.checksum import Content
from ..hub.client import Hub
from ..hub.dataset import MODEL_REPO_FOLDER, shards_in
from ..hub.history import Publish
from ..hub.plan import plan
from ..hub.provenance import provenance_of
from ..hub.publish import changes, model_files, state_files
from ..hub.repo import MAIN, PROVENANCE_FILE, STATE_BRANCH, Remote
from ..hub.staging import refuse_secrets
from ..inputs import Inputs
from ..report.log import note
from .account import account_of

if TYPE_CHECKING:  # it loads pyarrow and the tokenizers
    from .documents import Documents


@dataclass(frozen=True)
class Planned:
    """What each branch of the model's repo is to get, and lose; `history` are the publishes, this one included."""

    files: Mapping[str, Content]
    state: Mapping[str, Content]
    removed: tuple[str, ...]
    history: Sequence[Publish]

    def differs_from(self, remote: Remote) -> bool:
        """Whether there is anything to send, or to take away."""
        return bool(changes(self.files, remote.model) or changes(self.state, remote.state) or self.removed)


def planned_for(
    inputs: Inputs,
    hub: Hub,
    remote: Remote,
    model: ModelFolder,
    newest: ModelFolder,
    parity: ParityFacts,
    documents: "Documents | None",
) -> Planned:
    """What a publish of `model` would change on top of `remote`; `newest` is what training goes on from.

    Raises CheckpointError where something of it must not be published.
    """
    with_model = documents if documents and not documents.hub else None
    kept = inputs.upload_datasets and not inputs.dataset_repo and shards_in(remote.model, MODEL_REPO_FOLDER)
    account = account_of(inputs, hub, remote, model, parity, MODEL_REPO_FOLDER if with_model or kept else None)
    files = model_files(model, account.card) | account.history_files | dict(with_model.files if with_model else {})
    files |= _provenance(inputs, remote, files)
    keeps_state = inputs.upload_training_state and newest.has_training_state and remote.revision == MAIN
    state = state_files(newest) if keeps_state and not inputs.create_pr else {}
    refuse_secrets(state | files)
    return Planned(files, state, with_model.removed if with_model else (), account.history)


def _provenance(inputs: Inputs, remote: Remote, files: Mapping[str, Content]) -> dict[str, Content]:
    """Nothing where the rest is published already: another run that publishes the same makes no commit."""
    if not changes(files, remote.model):
        return {}
    return {PROVENANCE_FILE: provenance_of(files, inputs.model_dump(mode="json", exclude={"hf_token"}))}


def show_plan(hub: Hub, remote: Remote, repo: Planned, documents: "Documents | None") -> None:
    """Print all of it."""
    url = hub.url(remote.repo_id)
    note("dry run: this would be published, and nothing else")
    if documents:
        from .documents import documents_plan

        for line in documents_plan(documents):
            note(line)
    branches = (
        (remote.revision, repo.files, remote.model, repo.removed),
        (STATE_BRANCH, repo.state, remote.state, ()),
    )
    for branch, wanted, published, removed in branches:
        planned = changes(wanted, published)
        if wanted:
            note(f"{branch} of {url}: {sum(change.size for change in planned):,} bytes")
        for line in plan(hub, remote.repo_id, planned, published, removed):
            note(line)
