"""The files of a repo on the Hub at a commit, and the two branches of a model repo: main and the training state.

A local file is compared with one on the Hub without a download: by sha256 for LFS files, by git blob id for others.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import utils

from ..checkpoint.architectures import ARCHITECTURES
from ..checkpoint.metadata import METADATA_FILE
from ..checkpoint.model_folder import (
    CONFIG_FILE,
    GENERATION_FILE,
    OPTIMIZER_FILE,
    SPARE_FILE,
    STATE_FILE,
    TOKENIZER_FILES,
    TRAINING_STATE,
    WEIGHTS_FILE,
    WEIGHTS_FILES,
    sha256,
)
from .endpoint import Hub, Kind
from .retry import request_timeout, with_retries

if TYPE_CHECKING:
    from huggingface_hub.hf_api import DatasetInfo, ModelInfo, RepoSibling, SpaceInfo


MAIN, STATE_BRANCH = "main", "training-state"
CARD_FILE, PROVENANCE_FILE, SIGNATURE_FILE = "README.md", "provenance.json", "model.sig"
HISTORY_FILE, CHART_FILE = "metrics/history.jsonl", "metrics/history.png"
# All files that are ever published or fetched. Other files in a folder or a repo are left alone.
REQUIRED_FILES = (CONFIG_FILE, WEIGHTS_FILE, *TOKENIZER_FILES)
MODEL_FILES = (*REQUIRED_FILES, GENERATION_FILE, METADATA_FILE)
# our own modeling code, published with models that transformers has no code for; it is never run after a download
CODE_FILES = tuple(name for architecture in ARCHITECTURES.values() for name in architecture.code_files)
STATE_FILES = (f"{TRAINING_STATE}/{STATE_FILE}", f"{TRAINING_STATE}/{OPTIMIZER_FILE}")
SPARE_STATE_FILES = (f"{TRAINING_STATE}/{SPARE_FILE}",)  # of some imported models


@dataclass(frozen=True)
class RemoteFile:
    """A file on the Hub: its size in bytes, and its sha256 (LFS) or git blob id (the rest)."""

    path: str
    size: int
    sha256: str | None
    blob_id: str | None


@dataclass(frozen=True)
class Listing:
    """The files of a repo at a commit."""

    commit: str
    files: dict[str, RemoteFile]

    @property
    def has_model(self) -> bool:
        return all(name in self.files for name in REQUIRED_FILES)

    @property
    def has_other_model(self) -> bool:
        """Whether transformers would load a model that is not complete here: a pickle, shards, or older tokenizer files."""
        here = {name for name in (CONFIG_FILE, METADATA_FILE, *WEIGHTS_FILES) if name in self.files}
        damaged = {METADATA_FILE, WEIGHTS_FILE} <= here  # of this program, with a file missing
        return CONFIG_FILE in here and not here.isdisjoint(WEIGHTS_FILES) and not self.has_model and not damaged

    @property
    def has_state(self) -> bool:
        return self.has_model and all(name in self.files for name in STATE_FILES)


@dataclass(frozen=True)
class Remote:
    """A repo when it was listed: the files of `revision` and of the training state's branch, None if it does not exist.

    A publish commits on top of these two commits, and fails if a branch has a newer one.
    """

    repo_id: str
    revision: str
    model: Listing | None
    state: Listing | None

    @property
    def holds_a_model(self) -> bool:
        """Whether there is a model to fetch, or one that can't be used and must not be overwritten without a look at it."""
        if self.model is None:
            return False
        kept = self.revision == MAIN and self.state is not None and self.state.has_state
        return self.model.has_model or self.model.has_other_model or kept


def look_up(hub: Hub, repo_id: str, revision: str) -> Remote:
    """List the files of a model repo, which need not exist. Raises HubError."""
    return Remote(repo_id, revision, find_repo(hub, repo_id, revision), find_repo(hub, repo_id, STATE_BRANCH))


def list_repo(hub: Hub, repo_id: str, revision: str) -> Listing:
    """The files of `repo_id` at `revision`. Raises HubError, also if it does not exist."""
    return with_retries(hub, repo_id, f"looking up revision {revision}", lambda: _listing(hub, repo_id, revision))


def find_repo(hub: Hub, repo_id: str, revision: str) -> Listing | None:
    """The files of `repo_id` at `revision`, or None if the repo or revision does not exist or is not visible to this token."""

    def find() -> Listing | None:
        try:
            return _listing(hub, repo_id, revision)
        except utils.GatedRepoError:  # a subclass of RepositoryNotFoundError, but the repo exists
            raise
        except utils.RevisionNotFoundError:
            return None
        except utils.RepositoryNotFoundError as error:
            if hub.has_token and error.response.status_code == 401:  # the token has expired: whether the repo exists is unknown
                raise
            return None

    return with_retries(hub, repo_id, f"looking up revision {revision}", find)


def _listing(hub: Hub, repo_id: str, revision: str) -> Listing:
    looks: dict[Kind, Callable[..., ModelInfo | DatasetInfo | SpaceInfo]] = {
        "model": hub.api.model_info,
        "dataset": hub.api.dataset_info,
        "space": hub.api.space_info,
    }
    info = looks[hub.kind](repo_id, revision=revision, files_metadata=True, timeout=request_timeout())
    assert info.sha
    return Listing(info.sha, {sibling.rfilename: _remote_file(sibling) for sibling in info.siblings or ()})


def _remote_file(sibling: "RepoSibling") -> RemoteFile:
    return RemoteFile(
        path=sibling.rfilename,
        size=sibling.size or 0,
        sha256=sibling.lfs.sha256 if sibling.lfs else None,
        blob_id=sibling.blob_id,
    )


Content = Path | bytes


def size_of(content: Content) -> int:
    """Bytes."""
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def same_content(content: Content, remote: RemoteFile) -> bool:
    """Whether `content` is byte for byte the file `remote` on the Hub."""
    if size_of(content) != remote.size:
        return False
    if remote.sha256:
        return _sha256(content) == remote.sha256
    return git_blob_id(content if isinstance(content, bytes) else content.read_bytes()) == remote.blob_id


def git_blob_id(content: bytes) -> str:
    """The git blob id of a file with this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _sha256(content: Content) -> str:
    return hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else sha256(content)
