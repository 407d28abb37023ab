"""Downloads a model folder from the Hub: the files of one commit, each verified against the Hub's listing."""

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from ..checkpoint.atomic import TEMPORARY_PREFIX
from ..checkpoint.copy_in import move_checkpoint
from ..checkpoint.metadata import METADATA_FILE, Metadata, read_metadata
from ..checkpoint.model_folder import (
    CONFIG_FILE,
    STATE_FILE,
    TRAINING_STATE,
    WEIGHTS_FILE,
    ModelFolder,
    read_config,
    read_model_folder,
)
from ..errors import CheckpointError, HubError
from ..formats.import_folder import Download, import_folder, is_own
from ..formats.transformers_folder import files_to_read
from ..model import ModelConfig
from ..training.training_state import TrainingState, read_state_file
from ..workspace import create_output_dir
from .endpoint import Hub
from .provenance import Verify, verify_files
from .repo import (
    CARD_FILE,
    CODE_FILES,
    HISTORY_FILE,
    MAIN,
    MODEL_FILES,
    PROVENANCE_FILE,
    REQUIRED_FILES,
    SIGNATURE_FILE,
    SPARE_STATE_FILES,
    STATE_FILES,
    Listing,
    Remote,
    RemoteFile,
    same_content,
)
from .retry import is_transient_in_download, with_retries
from .signature import SignedBy, verify_folder

_STATE_FILES = (*STATE_FILES, *SPARE_STATE_FILES)
Importer = Callable[[Path, Path], ModelFolder]  # (downloaded folder, output_dir) -> the model folder
_Files = dict[str, tuple[str, RemoteFile]]  # name -> its commit, and its entry in the Hub's listing


@dataclass(frozen=True)
class Fetched:
    """`model` is the model of the revision, at `commit`. `newest` is the checkpoint to resume from: the same model, the stable
    checkpoint before its decay phase, or a later one."""

    model: ModelFolder
    newest: ModelFolder
    commit: str


def fetch(
    hub: Hub,
    remote: Remote,
    output_dir: Path,
    note: Callable[[str], None] = lambda _: None,
    verify: Verify = "off",
    signer: SignedBy | None = None,
    tokenizer: str | None = None,
) -> Fetched:
    """Download the model in `remote` to `output_dir`, as `checkpoint-<step>` folders.

    The training state is downloaded too if the Hub has one of the same weights, or, on the main branch, a later one of the same
    run. A folder gets its final name after the download is complete and verified. A GPT-2 that another program published is
    imported, in any form in which transformers saves it, and `note` gets the assumptions made; `tokenizer` is a spec for one
    without a tokenizer.

    `verify`: check the model files against provenance.json in the repo; `auto`: if it has one. `signer`: check them against
    model.sig in the repo, which must be by this signer. With `require` or a signer, a training state and the models that are
    not complete model folders are not downloaded, because these are not covered.

    Raises HubError if the revision does not exist or a download fails, CheckpointError if it is not a complete model folder.
    """
    published, kept = remote.model, remote.state if remote.state and remote.state.has_state else None
    strict = verify == "require" or signer is not None
    if strict:
        kept = None
    if published is None:
        raise HubError(
            f"{remote.repo_id} on {hub.endpoint} does not exist at revision {remote.revision}, or is not accessible. "
            "Nothing was fetched.",
            "Check repo_id, revision, and which repos the token has access to.",
        )
    if not published.has_model:
        if kept and remote.revision == MAIN:  # the first publish was interrupted between the state and the model
            newest = _download(hub, remote.repo_id, _files(kept, (*MODEL_FILES, *_STATE_FILES)), output_dir)
            return Fetched(newest, newest, kept.commit)
        if published.has_other_model and not strict:
            files = _files(published, files_to_read(published.files))
            model = _download(hub, remote.repo_id, files, output_dir, _import(remote.repo_id, published, tokenizer, note))
            return Fetched(model, model, published.commit)
        missing = [name for name in REQUIRED_FILES if name not in published.files]
        raise CheckpointError(
            f"{remote.repo_id} at {published.commit} is not a complete model folder: {', '.join(missing)} missing. "
            "Nothing was fetched.",
            "Publish it with mode: deploy, or with save_pretrained of a GPT-2 model and its tokenizer in transformers.",
        )
    wanted = _files(published, (*MODEL_FILES, CARD_FILE, HISTORY_FILE, PROVENANCE_FILE, SIGNATURE_FILE))
    if METADATA_FILE not in published.files:
        wanted |= _files(published, files_to_read(published.files))
    if signer:
        wanted |= _files(published, CODE_FILES)
    if kept and _weights(kept) == _weights(published):
        wanted |= _files(kept, _STATE_FILES)
    where = f"{remote.repo_id} at {published.commit}"
    check = partial(_verify, where=where, verify=verify, signer=signer, say=note)
    importer = _import(remote.repo_id, published, tokenizer, note)
    model = newest = _download(hub, remote.repo_id, wanted, output_dir, importer, check)
    on_branch = model.metadata is not None and model.metadata.branched_from is not None
    if kept and remote.revision == MAIN and model.metadata and (on_branch or not model.has_training_state):
        facts = read_facts(hub, remote.repo_id, kept)
        if facts and _continues(model.metadata, facts):
            newest = _download(hub, remote.repo_id, _files(kept, (*MODEL_FILES, *_STATE_FILES)), output_dir)
    return Fetched(model, newest, published.commit)


def _files(listing: Listing, wanted: Iterable[str]) -> _Files:
    return {name: (listing.commit, listing.files[name]) for name in wanted if name in listing.files}


def _weights(listing: Listing) -> tuple[str | None, str | None]:
    file = listing.files[WEIGHTS_FILE]
    return file.sha256, file.blob_id


def _continues(published: Metadata, kept: Metadata) -> bool:
    """Whether the training state `kept` is of the published model's run, and from its decay phase's start or later."""
    further = published.step + 1 if published.branched_from is None else published.branched_from
    return kept.run_id == published.run_id and kept.step >= further


def published_facts(hub: Hub, remote: Remote) -> tuple[Metadata | None, Metadata | None]:
    """The metadata of the two folders that `fetch` would download: the model's, and that of the checkpoint to resume from.

    None for a model of another program, and for none at all. Raises HubError.
    """
    kept = remote.state if remote.state and remote.state.has_state and remote.revision == MAIN else None
    state = read_facts(hub, remote.repo_id, kept) if kept else None
    if remote.model is None or not remote.model.has_model:
        return None, state  # the first publish was interrupted between the state and the model
    model = read_facts(hub, remote.repo_id, remote.model)
    newest = (
        state if model and state and kept and _weights(kept) != _weights(remote.model) and _continues(model, state) else model
    )
    return model, newest


def published_state(hub: Hub, remote: Remote) -> TrainingState | None:
    """The state of the published training state, without its moments; None if there is none. Raises HubError."""
    name = f"{TRAINING_STATE}/{STATE_FILE}"
    if remote.state is None or not remote.state.has_state or remote.revision != MAIN:
        return None
    with TemporaryDirectory() as folder:
        return read_state_file(
            download(hub, remote.repo_id, remote.state.commit, remote.state.files[name], Path(folder)).parent
        )


def published_config(hub: Hub, repo_id: str, listing: Listing) -> ModelConfig:
    """The config.json of a commit. Raises HubError, or CheckpointError if it is not of a model that can be trained."""
    with TemporaryDirectory() as folder:
        return read_config(download(hub, repo_id, listing.commit, listing.files[CONFIG_FILE], Path(folder)))


def read_facts(hub: Hub, repo_id: str, kept: Listing) -> Metadata | None:
    """The training_metadata.json of a commit, or None if it has none that this program wrote."""
    if METADATA_FILE not in kept.files:
        return None
    with TemporaryDirectory() as folder:
        return read_metadata(download(hub, repo_id, kept.commit, kept.files[METADATA_FILE], Path(folder)).parent)


def _verify(folder: Path, where: str, verify: Verify, signer: SignedBy | None, say: Callable[[str], None]) -> None:
    """Check the downloaded files against the signature and the provenance."""
    if signer:
        verify_folder(folder, where, signer)
        say(f"signed by {signer.name}")
        for name in CODE_FILES:  # needed for the check of the signature only
            (folder / name).unlink(missing_ok=True)
    elif (folder / SIGNATURE_FILE).is_file() and verify != "off":
        say(f"{SIGNATURE_FILE} was not checked: set signer to the expected signer")
    if verify != "off":
        verify_files(folder, where, verify == "require", say)


def _unchecked(_: Path) -> None:
    """For files with neither signature nor provenance."""


def _download(
    hub: Hub,
    repo_id: str,
    files: _Files,
    output_dir: Path,
    importer: Importer | None = None,
    check: Callable[[Path], None] = _unchecked,
) -> ModelFolder:
    """Download a model folder; `importer` imports one of another program."""
    with _incoming(hub, repo_id, files, output_dir) as incoming:
        check(incoming)
        if importer and not is_own(incoming):
            return importer(incoming, output_dir)
        return move_checkpoint(read_model_folder(incoming), output_dir)


def _import(repo_id: str, published: Listing, tokenizer: str | None, note: Callable[[str], None]) -> Importer:
    """What imports a GPT-2 that another program published. Raises CheckpointError if it can't be used."""
    saved = repo_id.rpartition("/")[2]
    download = f"hf download {repo_id} --revision {published.commit} --local-dir {saved}"
    name = f"{repo_id} at {published.commit}"

    def run(folder: Path, output_dir: Path) -> ModelFolder:
        return import_folder(folder, output_dir, tokenizer, note, Download(name, download, saved))

    return run


@contextmanager
def _incoming(hub: Hub, repo_id: str, files: _Files, output_dir: Path) -> Iterator[Path]:
    """A temporary folder with these files, each verified against the Hub's listing."""
    create_output_dir(output_dir)
    incoming = output_dir / f"{TEMPORARY_PREFIX}{repo_id.replace('/', '--')}"
    shutil.rmtree(incoming, ignore_errors=True)
    try:
        for commit, remote in files.values():
            download(hub, repo_id, commit, remote, incoming)
        shutil.rmtree(incoming / ".cache", ignore_errors=True)  # written by huggingface_hub
        yield incoming
    finally:
        shutil.rmtree(incoming, ignore_errors=True)


def download(hub: Hub, repo_id: str, commit: str, file: RemoteFile, folder: Path) -> Path:
    """Download `file` to `folder` and verify it, with one more attempt if it is corrupted. Raises HubError."""
    path = folder / file.path
    for retries_left in (1, 0):
        with_retries(
            hub,
            repo_id,
            f"fetching {file.path}",
            lambda: hub.api.hf_hub_download(repo_id, file.path, revision=commit, repo_type=hub.kind, local_dir=folder),
            retry_on=is_transient_in_download,
        )
        if same_content(path, file):
            return path
        path.unlink()
        if retries_left:
            hub.log(f"{file.path} of {repo_id} is corrupted. Downloading it again.")
    raise HubError(
        f"{file.path} of {repo_id} is corrupted after two downloads: its checksum differs from the Hub's. Nothing was kept.",
        "Run again.",
    )
