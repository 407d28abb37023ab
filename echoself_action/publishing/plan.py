"""What a publish will change: the files of each branch of the model's repo, checked before any of them is sent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from .. import evaluation
from ..checkpoint.metadata import ParityFacts
from ..checkpoint.model_folder import ModelFolder
from ..config.inputs import Inputs
from ..hub.cards.history_chart import history_files
from ..hub.cards.model_card import CardChoices, card_to_fill, model_card
from ..hub.dataset_repo import MODEL_REPO_FOLDER, published_shards
from ..hub.endpoint import Hub
from ..hub.history import History, Publish, fetch_history, publish_of
from ..hub.provenance import provenance_of, this_run
from ..hub.publish import changes, model_files, read_card, state_files
from ..hub.publish_diff import describe_changes
from ..hub.repo import MAIN, PROVENANCE_FILE, STATE_BRANCH, Content, Remote
from ..hub.secrets import without_secrets
from ..hub.upload_checks import refuse_secrets
from ..report.log import note
from ..report.report_page import Publishing, write_page
from ..training.result import LOG_FILE
from .quality_gate import is_published

if TYPE_CHECKING:  # it loads pyarrow and the tokenizers
    from .dataset import Documents


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
    kept = inputs.upload_datasets and not inputs.dataset_repo and published_shards(remote.model, MODEL_REPO_FOLDER)
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
        from .dataset import documents_plan

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
        for line in describe_changes(hub, remote.repo_id, planned, published, removed):
            note(line)


@dataclass(frozen=True)
class Account:
    """What is published beside the model: a card, None where it is a person's; the files of the history, where it has grown;
    and the publishes, this one included."""

    card: str | None
    history_files: dict[str, bytes]
    history: Sequence[Publish]


def account_of(
    inputs: Inputs, hub: Hub, remote: Remote, model: ModelFolder, parity: ParityFacts, documents: str | None
) -> Account:
    """Card and history on top of what `remote` holds; `documents` is the folder of the repo that has them.

    Weights that are published already make no new line.
    """
    history = fetch_history(hub, remote)
    files: dict[str, bytes] = {}
    if not is_published(model, remote) and (publish := _publish(model, history)):
        history = history.followed_by(publish)
        files = history_files(history, model.metadata)
    may_write, kept = card_to_fill(read_card(hub, remote), _template(inputs))
    if not may_write:
        note("the model card on the Hub was written by a person, and is left as it is")
        return Account(None, files, history.publishes)
    choices = CardChoices(inputs.license, inputs.language or (), documents)
    card = model_card(remote.repo_id, model, parity, choices, history.publishes, kept)
    return Account(card, files, history.publishes)


def write_report(inputs: Inputs, model: ModelFolder, text: str | None, publishing: Publishing | None = None) -> dict[str, str]:
    """Write the page about `model`; `text` is a sample of it, None where none was drawn yet. Returns the output."""
    if text is None:
        text = without_secrets(evaluation.sample_of(model))
    path = write_page(inputs.output_dir, inputs.output_dir / LOG_FILE, model, [text], publishing)
    return {"report": str(path)}


def _publish(model: ModelFolder, history: History) -> Publish | None:
    return publish_of(model, history, this_run(), evaluation.bits_per_byte_of(model), datetime.now(UTC))


def _template(inputs: Inputs) -> str | None:
    return Path(inputs.card).read_text(encoding="utf-8", errors="replace") if inputs.card else None
