"""upload_datasets: the documents that a model was trained on, published before the model, which then names their commit."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from ..checkpoint.metadata import DatasetFacts
from ..checkpoint.model_folder import ModelFolder
from ..config.inputs import Inputs
from ..corpus.parquet_dataset import Row, read_rows, write_dataset
from ..corpus.token_cache import corpus_digest
from ..errors import InputError
from ..hub.cards.dataset_card import dataset_card
from ..hub.cards.model_card import CardChoices, card_to_fill
from ..hub.client import datasets_of
from ..hub.dataset_repo import (
    DATA_FOLDER,
    MODEL_REPO_FOLDER,
    outdated_shards,
    pinned_dataset,
    refuse_secrets_in_documents,
    repo_paths,
)
from ..hub.endpoint import Hub
from ..hub.publish import changes, ensure_repo, publish_model, read_card
from ..hub.publish_diff import describe_changes
from ..hub.repo import CARD_FILE, MAIN, Content, Remote, find_repo
from ..report.github_actions import write_summary
from ..report.log import note, part, warn
from ..starting.tokenize_corpus import corpus_files
from .quality_gate import is_published


@dataclass(frozen=True)
class Documents:
    """Parquet files by their paths in the repo that they go to, and the shards there that they replace.

    `hub` and `remote` are the dataset repo, with its card in `card`; None where they go to the model's repo, with the model.
    """

    files: Mapping[str, Content]
    removed: tuple[str, ...]
    hub: Hub | None = None
    remote: Remote | None = None
    card: Mapping[str, Content] | None = None


def check_documents(inputs: Inputs, hub: Hub) -> None:
    """Before any work: whether the documents could be published. Raises InputError or HubError where not."""
    if not inputs.upload_datasets:
        return
    with part("Checking the documents"):
        if inputs.dataset_repo:
            datasets_of(hub, inputs.dataset_repo)
        refuse_secrets_in_documents(_rows(inputs, _files(inputs)))


@contextmanager
def documents_of(inputs: Inputs, hub: Hub, remote: Remote, model: ModelFolder) -> Iterator[Documents | None]:
    """The documents that `model` was trained on, for as long as the block lasts; None where they are not to be published.

    Raises InputError where `data` gives others, or holds a secret. A model that is published already keeps the documents that
    it has, where those are not here.
    """
    if not inputs.upload_datasets:
        yield None
        return
    with TemporaryDirectory() as folder:
        with part("Documents"):
            files = _files(inputs)
            if not _is_corpus_of(model, inputs, files) and is_published(model, remote):
                warn("upload_datasets: this model is published already, and `data` is not what it was trained on: not sent")
                documents = None
            else:
                documents = _written(inputs, hub, remote, model, files, Path(folder))
        yield documents


def publish_documents(inputs: Inputs, documents: Documents, model: ModelFolder) -> DatasetFacts | None:
    """Put the documents in their dataset repo; returns where they are, None where they go to the model's repo.

    Raises HubError where the repo has moved on since it was looked at.
    """
    hub, remote, card = documents.hub, documents.remote, documents.card
    if hub is None or remote is None or card is None:
        return None
    remote = ensure_repo(hub, remote, inputs.private)
    published = publish_model(hub, remote, {**documents.files, **card}, "Documents", documents.removed)
    facts = pinned_dataset(hub, remote, documents.files, published.commit, model.metadata.dataset if model.metadata else None)
    url = hub.url(remote.repo_id)
    if published.deployed:
        size = sum(change.size for change in published.changes)
        note(f"published {len(published.changes)} files, {size:,} bytes, to {url}: commit {published.commit}")
    else:
        note(f"{url} already holds these documents at commit {facts.commit}: nothing was sent")
    write_summary(f"Documents: [{url}]({url}/tree/{facts.commit}), commit `{facts.commit}`.\n")
    return facts


def documents_plan(documents: Documents) -> Iterator[str]:
    """What `publish_documents` would do, in lines to read."""
    hub, remote, card = documents.hub, documents.remote, documents.card
    if hub is None or remote is None or card is None:
        return
    planned = changes({**documents.files, **card}, remote.model)
    yield f"{MAIN} of {hub.url(remote.repo_id)}: {sum(change.size for change in planned):,} bytes"
    yield from describe_changes(hub, remote.repo_id, planned, remote.model, documents.removed)


def _written(inputs: Inputs, hub: Hub, remote: Remote, model: ModelFolder, files: list[Path], folder: Path) -> Documents:
    _require_corpus_of(model, inputs, files)
    refuse_secrets_in_documents(_rows(inputs, files))
    dataset = write_dataset(partial(_rows, inputs, files), folder)
    _require_corpus_of(model, inputs, files)  # nobody has written to a file meanwhile
    told = ", ".join(f"{size.rows:,} in {split}" for split, size in dataset.splits.items())
    note(f"documents: {told}; {len(dataset.files)} Parquet files")
    if inputs.dataset_repo is None:
        placed_files = repo_paths(dataset, MODEL_REPO_FOLDER)
        return Documents(placed_files, outdated_shards(placed_files, remote.model, MODEL_REPO_FOLDER))
    placed_files = repo_paths(dataset, DATA_FOLDER)
    datasets = datasets_of(hub, inputs.dataset_repo)
    target = Remote(inputs.dataset_repo, MAIN, find_repo(datasets, inputs.dataset_repo, MAIN), None)
    may_write, kept = card_to_fill(read_card(datasets, target), None)
    if not may_write:
        note("the dataset card on the Hub was written by a person, and is left as it is")
    choices = CardChoices(license=inputs.license, language=inputs.language or ())
    card = {CARD_FILE: dataset_card(target.repo_id, dataset, choices, kept).encode()} if may_write else {}
    return Documents(placed_files, outdated_shards(placed_files, target.model, DATA_FOLDER), datasets, target, card)


def _files(inputs: Inputs) -> list[Path]:
    files = corpus_files(inputs)
    if tokens := [path for path in files if path.suffix == ".bin"]:
        raise InputError(
            f"upload_datasets: {tokens[0]} holds token ids, and no documents. Nothing was published.",
            "Name the text in `data`, or leave upload_datasets out.",
        )
    return files


def _rows(inputs: Inputs, files: Iterable[Path]) -> Iterator[Row]:
    # training has told what it passed over
    return read_rows(files, Path.cwd(), inputs.val_fraction, inputs.on_bad_file, lambda _: None)


def _is_corpus_of(model: ModelFolder, inputs: Inputs, files: list[Path]) -> bool:
    facts = model.metadata
    if facts is None or facts.data is None:
        return False
    return facts.data.digest == corpus_digest(files, facts.tokenizer.digest, inputs.val_fraction)


def _require_corpus_of(model: ModelFolder, inputs: Inputs, files: list[Path]) -> None:
    """No model is said to be trained on what it was not."""
    if model.metadata is None or model.metadata.data is None:
        raise InputError(
            f"upload_datasets: nobody knows what {model.path} was trained on. Nothing was published.",
            "Leave upload_datasets out, or go on training it here first.",
        )
    if not _is_corpus_of(model, inputs, files):
        raise InputError(
            f"upload_datasets: {model.path} was trained on another corpus than `data` gives here: its digest is "
            f"{model.metadata.data.digest[:16]}, with val_fraction {inputs.val_fraction:g}. Nothing was published.",
            "Publish it from the commit that it was trained from, with the same data and val_fraction, or with mode: cycle, "
            "which trains and publishes in one job; or leave upload_datasets out.",
        )
