"""The documents of a corpus on the Hub: in a dataset repo, or in a folder of the model's repo.

They are published beside a model (`upload_datasets`), and fetched as a corpus (`data: hf://datasets/owner/name@revision`).
"""

import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from ..checkpoint.atomic import new_file
from ..checkpoint.metadata import DatasetFacts
from ..corpus.parquet_dataset import Dataset, Row, is_ours, restore
from ..errors import InputError
from ..workspace import create_cache
from .endpoint import Hub
from .fetch import download
from .publish import changes
from .repo import Content, Listing, Remote, find_repo, list_repo
from .repo_id import SCHEME, parse_source
from .secrets import find_secrets

DATA_FOLDER, MODEL_REPO_FOLDER = "data", "datasets"  # of a dataset repo; of a model repo
_SHARD = re.compile(r"(train|validation)(-[01]+)?\.parquet")
_SHOWN = 20  # finds in a message
_NAMES = ".names.json"  # beside the folder of a dataset: the paths of its files in the dataset


def repo_paths(dataset: Dataset, folder: str) -> dict[str, Content]:
    """The shards of `dataset` by their paths in the repo."""
    return {f"{folder}/{name}": path for name, path in dataset.files.items()}


def outdated_shards(files: Mapping[str, Content], published: Listing | None, folder: str) -> tuple[str, ...]:
    """The published shards in `folder` that are not among `files`. Other files in that folder are kept."""
    return tuple(name for name in published_shards(published, folder) if name not in files)


def published_shards(published: Listing | None, folder: str) -> list[str]:
    """The paths of the shards in `folder` of the repo."""
    names = published.files if published else {}
    return [name for name in names if name.startswith(f"{folder}/") and _SHARD.fullmatch(name.removeprefix(f"{folder}/"))]


def pinned_dataset(
    hub: Hub, remote: Remote, documents: Mapping[str, Content], head: str, known: DatasetFacts | None
) -> DatasetFacts:
    """The commit of the dataset repo with these documents: the `known` one if it has the same documents, else `head`.

    So an edit of the dataset card does not change the metadata of the model, and the model is not published again.
    """
    if known and known.repo_id == remote.repo_id and known.commit != head:
        earlier = find_repo(hub, remote.repo_id, known.commit)
        if not changes(documents, earlier) and not outdated_shards(documents, earlier, DATA_FOLDER):
            return known
    return DatasetFacts(repo_id=remote.repo_id, commit=head)


def refuse_secrets_in_documents(rows: Iterable[Row]) -> None:
    """Raises InputError if a document contains what looks like a secret. The message never contains the secret."""
    finds = list(islice(_finds(rows), _SHOWN))
    if not finds:
        return
    row, line, _ = finds[0]
    shown = "; ".join(f"{_place(row, line)}: {kind}" for row, line, kind in finds)
    raise InputError(
        f"upload_datasets: the documents contain what looks like a secret: {shown}. Nothing was published.",
        "If it is real, revoke it, remove it from the file or the file from `data`, and train again: the model was trained on "
        "it. If it is a false positive, put `pragma: allowlist secret` on the line.",
        file=str(row.path) if line else None,
        line=line,
    )


def fetch_dataset(hub: Hub, source: str, cache: Path) -> list[Path]:
    """Download a dataset to `cache`: the original text files if it was published by upload_datasets, else its Parquet files.

    A commit that is in the cache is not downloaded again. Raises HubError if the dataset can't be downloaded, InputError if it
    has no Parquet files.
    """
    parsed = parse_source(source)
    assert parsed
    repo_id, revision = parsed
    datasets = replace(hub, kind="dataset")  # a public dataset is read with the token at hand, or with none
    listing = list_repo(datasets, repo_id, revision)
    wanted = [file for name, file in sorted(listing.files.items()) if name.endswith(".parquet") and _is_relative(name)]
    if not wanted:
        raise InputError(
            f"data: {source} has no Parquet files at commit {listing.commit}. The corpus was not read.",
            "Use a dataset that was published with upload_datasets, or a Parquet dataset with a `text` or `messages` column.",
        )
    folder = cache / repo_id.replace("/", "--") / listing.commit
    recorded = folder.with_name(folder.name + _NAMES)
    if not (folder.is_dir() and recorded.is_file()):
        create_cache(folder.parent)
        with TemporaryDirectory(dir=folder.parent) as scratch:
            fetched = [download(datasets, repo_id, listing.commit, file, Path(scratch) / "parquet") for file in wanted]
            files = Path(scratch) / "files"
            files.mkdir()
            if all(map(is_ours, fetched)):
                names = {path.name: source for path, source in restore(fetched, files).items()}
            else:
                names = {}
                for number, (path, file) in enumerate(zip(fetched, wanted, strict=True)):
                    names[f"{number:05}.parquet"] = file.path
                    shutil.move(path, files / f"{number:05}.parquet")
            if not folder.is_dir():  # earlier versions did not record the names
                files.rename(folder)
            with new_file(recorded) as written:
                written.write(json.dumps({name: f"{SCHEME}datasets/{repo_id}/{path}" for name, path in names.items()}).encode())
    hub.log(f"{source} is at commit {listing.commit}")
    return sorted(folder.iterdir())


def dataset_names(cache: Path) -> dict[Path, str]:
    """The names of the files of all datasets in `cache`: `hf://datasets/owner/name/` and the path in the dataset."""
    return {
        recorded.with_name(recorded.name.removesuffix(_NAMES)) / name: full
        for recorded in cache.glob(f"*/*{_NAMES}")
        for name, full in json.loads(recorded.read_text(encoding="utf-8")).items()
    }


def _finds(rows: Iterable[Row]) -> Iterator[tuple[Row, int | None, str]]:
    for row in rows:
        for find in find_secrets(row.text):
            yield row, row.line_of(find.line), find.kind


def _place(row: Row, line: int | None) -> str:
    return f"{row.source}, line {line}" if line else f"{row.source}, record {row.position}"


def _is_relative(name: str) -> bool:
    """Whether the path stays inside the repo. Git allows no other paths, but the server may not be a Git server."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts
