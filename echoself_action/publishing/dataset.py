"""Publish the documents that a model was trained on (`upload_datasets`): before the model, which then records their commit."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from ..checkpoint.model_folder import ModelFolder, record
from ..config.mode_inputs import DeployInputs
from ..corpus.parquet_dataset import Row, read_rows, write_dataset
from ..corpus.token_cache import corpus_digest
from ..errors import InputError
from ..hub.cards.dataset_card import dataset_card
from ..hub.cards.model_card import card_to_fill
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
from ..hub.publish import ensure_repo, publish_model, read_card
from ..hub.repo import CARD_FILE, MAIN, Remote, find_repo
from ..report.github_actions import write_summary
from ..report.log import note, part, warn
from ..starting.corpus_files import corpus_files
from .card import card_choices
from .publication import DatasetFiles, DatasetRepo, Publication
from .upload import log_upload


def check_dataset(inputs: DeployInputs, hub: Hub) -> None:
    """Check before any work that the documents could be published. Raises InputError or HubError if not."""
    if not inputs.upload_datasets:
        return
    with part("Checking the documents"):
        if inputs.dataset_repo:
            datasets_of(hub, inputs.dataset_repo)
        refuse_secrets_in_documents(_rows(inputs, _files(inputs)))


@contextmanager
def with_dataset(publication: Publication) -> Iterator[Publication]:
    """Add the documents that the model was trained on to the publication, as files that exist until the block ends.

    Adds none without `upload_datasets`, or if `data` is another corpus and the model is already published with its
    documents. Raises InputError if the model was trained on another corpus than `data`, or a document holds a secret.
    """
    inputs = publication.inputs
    if not inputs.upload_datasets:
        yield publication
        return
    with TemporaryDirectory() as folder:
        with part("Documents"):
            files = _files(inputs)
            if not _is_corpus_of(publication.model, inputs, files) and publication.is_same_model:
                warn("upload_datasets: this model is already published, and `data` is not its training corpus: not sent")
            else:
                publication = replace(publication, dataset=_write(publication, files, Path(folder)))
        yield publication


def publish_dataset(publication: Publication) -> Publication:
    """Commit the documents to their dataset repo and record the commit in the model's metadata.

    Does nothing if they are published with the model. Raises HubError if the repo has a new commit since it was listed.
    """
    dataset, model = publication.dataset, publication.model
    if dataset is None or dataset.repo is None:
        return publication
    hub = dataset.repo.hub
    remote = ensure_repo(hub, dataset.repo.remote, publication.inputs.private)
    published = publish_model(hub, remote, {**dataset.files, **dataset.repo.card}, "Documents", dataset.removed)
    facts = pinned_dataset(hub, remote, dataset.files, published.commit, model.metadata.dataset if model.metadata else None)
    url = hub.url(remote.repo_id)
    if published.deployed:
        log_upload(published, url)
    else:
        note(f"{url} already holds these documents at commit {facts.commit}: nothing was sent")
    write_summary(f"Documents: [{url}]({url}/tree/{facts.commit}), commit `{facts.commit}`.\n")
    return replace(publication, model=record(model, overwrite=True, dataset=facts), dataset_commit=facts.commit)


def _write(publication: Publication, files: list[Path], folder: Path) -> DatasetFiles:
    inputs, model, hub = publication.inputs, publication.model, publication.hub
    _require_corpus_of(model, inputs, files)
    refuse_secrets_in_documents(_rows(inputs, files))
    dataset = write_dataset(partial(_rows, inputs, files), folder)
    _require_corpus_of(model, inputs, files)  # again, in case a file has changed meanwhile
    sizes = ", ".join(f"{size.rows:,} in {split}" for split, size in dataset.splits.items())
    note(f"documents: {sizes}; {len(dataset.files)} Parquet files")
    if inputs.dataset_repo is None:
        in_model_repo = repo_paths(dataset, MODEL_REPO_FOLDER)
        return DatasetFiles(in_model_repo, outdated_shards(in_model_repo, publication.remote.model, MODEL_REPO_FOLDER))
    in_dataset_repo = repo_paths(dataset, DATA_FOLDER)
    datasets = datasets_of(hub, inputs.dataset_repo)
    target = Remote(inputs.dataset_repo, MAIN, find_repo(datasets, inputs.dataset_repo, MAIN), None)
    may_write, kept = card_to_fill(read_card(datasets, target), None)
    if not may_write:
        note("the dataset card on the Hub was not generated by echoself-action, and is kept as it is")
    card = {CARD_FILE: dataset_card(target.repo_id, dataset, card_choices(inputs), kept).encode()} if may_write else {}
    removed = outdated_shards(in_dataset_repo, target.model, DATA_FOLDER)
    return DatasetFiles(in_dataset_repo, removed, DatasetRepo(datasets, target, card))


def _files(inputs: DeployInputs) -> list[Path]:
    files = corpus_files(inputs)
    if tokens := [path for path in files if path.suffix == ".bin"]:
        raise InputError(
            f"upload_datasets: {tokens[0]} contains token ids, not documents. Nothing was published.",
            "Set `data` to the text files, or remove upload_datasets.",
        )
    return files


def _rows(inputs: DeployInputs, files: Iterable[Path]) -> Iterator[Row]:
    # training has already reported what it skipped
    return read_rows(files, Path.cwd(), inputs.val_fraction, inputs.on_bad_file, lambda _: None, inputs.text_column)


def _is_corpus_of(model: ModelFolder, inputs: DeployInputs, files: list[Path]) -> bool:
    facts = model.metadata
    if facts is None or facts.data is None:
        return False
    return facts.data.digest == corpus_digest(files, facts.tokenizer.digest, inputs.val_fraction, inputs.text_column)


def _require_corpus_of(model: ModelFolder, inputs: DeployInputs, files: list[Path]) -> None:
    """Raises InputError unless `files` are what the model was trained on: no model is published with another corpus."""
    if model.metadata is None or model.metadata.data is None:
        raise InputError(
            f"upload_datasets: {model.path} does not record what it was trained on. Nothing was published.",
            "Remove upload_datasets, or resume training it here first.",
        )
    if not _is_corpus_of(model, inputs, files):
        raise InputError(
            f"upload_datasets: {model.path} was trained on a different corpus than `data` selects here: its digest is "
            f"{model.metadata.data.digest[:16]}, with val_fraction {inputs.val_fraction:g}. Nothing was published.",
            "Publish it from the commit it was trained on, with the same data and val_fraction; or use mode: cycle, which "
            "trains and publishes in one job; or remove upload_datasets.",
        )
