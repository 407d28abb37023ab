"""Downloads a model folder from the Hub: the files of one commit, each verified against the Hub's own listing."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from ..checkpoint.atomic import TEMPORARY_PREFIX
from ..checkpoint.copy_in import move_in
from ..checkpoint.metadata import METADATA_FILE, Metadata, read_metadata
from ..checkpoint.model_folder import WEIGHTS_FILE, ModelFolder, read_model_folder
from ..errors import CheckpointError, HubError
from .endpoint import Hub
from .provenance import Verify, verify_files
from .repo import (
    CARD_FILE,
    CODE_FILES,
    HISTORY_FILE,
    MAIN,
    MODEL_FILES,
    PICKLED_FILES,
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
_Files = dict[str, tuple[str, RemoteFile]]  # name -> the commit that it comes from, and what the Hub says of it


@dataclass(frozen=True)
class Fetched:
    """`model` is what the revision holds, at `commit`. `newest` is where its training stands: the same, the checkpoint that
    the model's learning rate fell from, or further on."""

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
) -> Fetched:
    """Fetch the model that was looked up into `output_dir`, as `checkpoint-<step>` folders.

    With it comes the training state where the Hub keeps one: of the same weights, or, on the main branch, of the same run
    further on. Raises HubError where the revision is not there or a file does not arrive whole, and CheckpointError where
    what is there is no model folder. Nothing half-fetched gets a final name. A whole GPT-2 whose weights are a pickle becomes a
    model folder on the way, saying what was assumed through `note`. `verify`: hold the model's files to the repo's
    provenance.json, `auto` where it has one. `signer`: to the repo's model.sig, which has to be theirs. `require` and a
    signer fetch neither a training state nor a pickle, for nobody answers for these.
    """
    published, kept = remote.model, remote.state if remote.state and remote.state.has_state else None
    strict = verify == "require" or signer is not None
    if strict:
        kept = None
    if published is None:
        raise HubError(
            f"{remote.repo_id} on {hub.endpoint} is not there at revision {remote.revision}, or is private to this token. "
            "Nothing was fetched.",
            "Check repo_id and revision, and the access of the token.",
        )
    if not published.has_model:
        if kept and remote.revision == MAIN:  # the first publish was cut off after the state, before the model
            newest = _download(hub, remote.repo_id, _files(kept, (*MODEL_FILES, *_STATE_FILES)), output_dir)
            return Fetched(newest, newest, kept.commit)
        if published.has_pickled_model and not strict:
            model = _converted(hub, remote.repo_id, published, output_dir, note)
            return Fetched(model, model, published.commit)
        missing = [name for name in REQUIRED_FILES if name not in published.files]
        raise CheckpointError(
            f"{remote.repo_id} at {published.commit} is no whole model folder: {', '.join(missing)} missing. "
            "Nothing was fetched.",
            "Publish it with mode: deploy, or with transformers' save_pretrained of a GPT-2 model and its tokenizer.",
        )
    wanted = _files(published, (*MODEL_FILES, CARD_FILE, HISTORY_FILE, PROVENANCE_FILE, SIGNATURE_FILE))
    if signer:
        wanted |= _files(published, CODE_FILES)
    if kept and _weights(kept) == _weights(published):
        wanted |= _files(kept, _STATE_FILES)
    where = f"{remote.repo_id} at {published.commit}"
    check = partial(_verify, where=where, verify=verify, signer=signer, say=note)
    model = newest = _download(hub, remote.repo_id, wanted, output_dir, check)
    on_branch = model.metadata is not None and model.metadata.branched_from is not None
    if kept and remote.revision == MAIN and model.metadata and (on_branch or not model.has_training_state):
        facts = read_facts(hub, remote.repo_id, kept)
        branched_from = model.metadata.branched_from
        further = model.step + 1 if branched_from is None else branched_from
        if facts and facts.run_id == model.metadata.run_id and facts.step >= further:
            newest = _download(hub, remote.repo_id, _files(kept, (*MODEL_FILES, *_STATE_FILES)), output_dir)
    return Fetched(model, newest, published.commit)


def _files(listing: Listing, wanted: tuple[str, ...]) -> _Files:
    return {name: (listing.commit, listing.files[name]) for name in wanted if name in listing.files}


def _weights(listing: Listing) -> tuple[str | None, str | None]:
    file = listing.files[WEIGHTS_FILE]
    return file.sha256, file.blob_id


def read_facts(hub: Hub, repo_id: str, kept: Listing) -> Metadata | None:
    """The training_metadata.json of a commit, or None where it has none of ours."""
    if METADATA_FILE not in kept.files:
        return None
    with TemporaryDirectory() as folder:
        return read_metadata(download(hub, repo_id, kept.commit, kept.files[METADATA_FILE], Path(folder)).parent)


def _verify(folder: Path, where: str, verify: Verify, signer: SignedBy | None, say: Callable[[str], None]) -> None:
    """Hold what was fetched to who signed it, and to how it was published."""
    if signer:
        verify_folder(folder, where, signer)
        say(f"signed by {signer.name}")
        for name in CODE_FILES:  # it was there to be compared
            (folder / name).unlink(missing_ok=True)
    elif (folder / SIGNATURE_FILE).is_file() and verify != "off":
        say(f"it has a {SIGNATURE_FILE}, which says nothing before signer names who must have signed it")
    if verify != "off":
        verify_files(folder, where, verify == "require", say)


def _unchecked(_: Path) -> None:
    """Of files that nothing is known of but what the Hub says."""


def _download(
    hub: Hub, repo_id: str, files: _Files, output_dir: Path, check: Callable[[Path], None] = _unchecked
) -> ModelFolder:
    with _incoming(hub, repo_id, files, output_dir) as incoming:
        check(incoming)
        return move_in(read_model_folder(incoming), output_dir)


def _converted(hub: Hub, repo_id: str, published: Listing, output_dir: Path, note: Callable[[str], None]) -> ModelFolder:
    """A model folder of the GPT-2 in `pytorch_model.bin`, which is read with nothing in it run.

    Raises CheckpointError where it is not the whole model, with what is wrong and what of it can be saved.
    """
    from ..formats.diagnosis import diagnose  # these load PyTorch, which a model of ours is fetched without
    from ..formats.import_checkpoint import import_checkpoint

    saved = repo_id.rpartition("/")[2]
    first = f"hf download {repo_id} --revision {published.commit} --local-dir {saved}"
    with _incoming(hub, repo_id, _files(published, PICKLED_FILES), output_dir) as incoming:
        pickled = diagnose(incoming, f"{repo_id} at {published.commit}", first, saved)
        return import_checkpoint(pickled, output_dir, None, note)


@contextmanager
def _incoming(hub: Hub, repo_id: str, files: _Files, output_dir: Path) -> Iterator[Path]:
    """A folder with these files, as the Hub says they are; it is gone after the block."""
    output_dir.mkdir(parents=True, exist_ok=True)
    incoming = output_dir / f"{TEMPORARY_PREFIX}{repo_id.replace('/', '--')}"
    shutil.rmtree(incoming, ignore_errors=True)
    try:
        for commit, remote in files.values():
            download(hub, repo_id, commit, remote, incoming)
        shutil.rmtree(incoming / ".cache", ignore_errors=True)  # the client's own bookkeeping
        yield incoming
    finally:
        shutil.rmtree(incoming, ignore_errors=True)


def download(hub: Hub, repo_id: str, commit: str, file: RemoteFile, folder: Path) -> Path:
    """Fetch `file` into `folder`; where it arrives damaged, once more. Raises HubError where it does not arrive whole."""
    path = folder / file.path
    for tries_left in (1, 0):
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
        if tries_left:
            hub.log(f"{file.path} of {repo_id} arrived damaged. It is fetched once more.")
    raise HubError(
        f"{file.path} of {repo_id} arrived damaged, twice: its checksum is not the Hub's. Nothing was kept.", "Run it again."
    )
