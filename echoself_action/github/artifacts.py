"""The artifacts of a workflow run: listed, downloaded up to a size limit, verified by their digest, and extracted safely."""

import hashlib
import shutil
import stat
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import httpx2

from ..errors import HubError
from .api import github_client
from .event import WorkflowRun

_MAX_PAGES, _PAGE_SIZE = 10, 100
_MAX_FILES, _MAX_NAME, _MAX_PATH = 10_000, 255, 1000  # the last two in bytes, as file systems allow


class UnsafeZipError(Exception):
    """A zip was not extracted, and no files remain. The message follows the name of the zip."""


@dataclass(frozen=True)
class Artifact:
    """An artifact as listed by GitHub. `sha256` is the hex digest of its zip, "" if GitHub does not list one."""

    id: int
    name: str
    expired: bool
    sha256: str = ""


def list_artifacts(run: WorkflowRun) -> list[Artifact]:
    """The artifacts of `run`. Raises HubError if GitHub refuses the request or can't be reached."""
    found: list[Artifact] = []
    path = f"/repos/{run.repository}/actions/runs/{run.id}/artifacts"
    with github_client(run.access, "listing its artifacts", run.title) as client:
        for page in range(1, _MAX_PAGES + 1):
            response = client.get(path, params={"per_page": _PAGE_SIZE, "page": page})
            response.raise_for_status()
            rows = response.json()["artifacts"]
            found += [_artifact(row) for row in rows if _belongs_to(row, run)]
            if len(rows) < _PAGE_SIZE:
                break
    return found


def download(run: WorkflowRun, artifact: Artifact, target: Path, max_bytes: int) -> bool:
    """Download the zip of an artifact to `target`; returns False if GitHub has deleted it.

    Raises HubError if GitHub refuses the request, or if the zip is larger than `max_bytes` or has another digest.
    """
    digest, size = hashlib.sha256(), 0
    with github_client(run.access, f"downloading the artifact {artifact.name!r}", run.title) as client:
        path = f"/repos/{run.repository}/actions/artifacts/{artifact.id}/zip"
        with client.stream("GET", path) as response:
            if response.status_code == httpx2.codes.GONE:
                return False
            response.raise_for_status()
            with target.open("wb") as file:
                for block in response.iter_bytes(1 << 20):
                    size += len(block)
                    if size > max_bytes:
                        break
                    digest.update(block)
                    file.write(block)
    if size > max_bytes or artifact.sha256 not in ("", digest.hexdigest()):
        problem = (
            f"it is larger than {max_bytes:,} bytes"
            if size > max_bytes
            else "its sha256 differs from the one that GitHub lists"
        )
        raise HubError(f"The artifact {artifact.name!r} of {run.title} was not used: {problem}.", "Run the job again.")
    return True


def extract(path: Path, folder: Path, max_bytes: int) -> int:
    """Extract the zip at `path` to the new `folder`; returns the number of bytes written.

    Raises UnsafeZipError unless it has only plain files inside the folder, of at most `max_bytes` in total.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _check_entries(entries, max_bytes)
            folder.mkdir()
            for entry in entries:
                target = folder.joinpath(*PurePosixPath(entry.filename).parts)
                if entry.is_dir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, target.open("xb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)  # zipfile reads at most the size in the header
        return sum(entry.file_size for entry in entries)
    except UnsafeZipError:
        raise
    except (FileExistsError, NotADirectoryError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise UnsafeZipError("has two entries with one path") from error
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError, zlib.error) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise UnsafeZipError(f"is a damaged zip ({str(error)[:100]})") from error


def _belongs_to(row: Mapping[str, Any], run: WorkflowRun) -> bool:
    """Whether the artifact itself is listed as of this run, and not of code from a fork."""
    origin = row.get("workflow_run") or {}
    return origin.get("id", run.id) == run.id and origin.get("head_repository_id") == origin.get("repository_id")


def _artifact(row: Mapping[str, Any]) -> Artifact:
    kind, _, digest = str(row.get("digest") or "").partition(":")
    return Artifact(
        id=int(row["id"]),
        name=str(row["name"]),
        expired=bool(row["expired"]),
        sha256=digest if kind == "sha256" else "",
    )


def _check_entries(entries: list[zipfile.ZipInfo], max_bytes: int) -> None:
    if len(entries) > _MAX_FILES:
        raise UnsafeZipError(f"has {len(entries):,} entries")
    announced = sum(entry.file_size for entry in entries)
    if announced > max_bytes:
        raise UnsafeZipError(f"would extract to {announced:,} bytes, but the limit is {max_bytes:,}")
    for entry in entries:
        name = entry.filename
        parts = name.rstrip("/").split("/")
        odd = len(name.encode()) > _MAX_PATH or any(len(part.encode()) > _MAX_NAME for part in parts)
        if odd or "\\" in name or any(part in ("", ".", "..") for part in parts) or not name.isprintable():
            raise UnsafeZipError(f"has an entry {name[:100]!r}, which may be outside its folder")
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise UnsafeZipError(f"has an entry {name[:100]!r} that is a link or a device")
        if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UnsafeZipError(f"has an entry {name[:100]!r} that is encrypted, or uses a compression that GitHub doesn't")
