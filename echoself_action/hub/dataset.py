"""The documents of a model on the Hub: in a dataset repo of their own, or in a folder of the model's repo."""

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING

from ..checkpoint.metadata import DatasetFacts
from ..errors import InputError
from .endpoint import Hub
from .publish import changes
from .repo import Content, Listing, Remote, find_repo
from .secrets import find_secrets

if TYPE_CHECKING:  # it loads pyarrow
    from ..corpus.parquet_dataset import Dataset, Row

DATA_FOLDER, MODEL_REPO_FOLDER = "data", "datasets"  # of a dataset repo; of a model repo
_SHARD = re.compile(r"(train|validation)(-[01]+)?\.parquet")
_SHOWN = 20  # finds in a message


def placed(dataset: "Dataset", folder: str) -> dict[str, Content]:
    """The files by their paths in the repo."""
    return {f"{folder}/{name}": path for name, path in dataset.files.items()}


def outdated(files: Mapping[str, Content], published: Listing | None, folder: str) -> tuple[str, ...]:
    """The shards in that folder of the repo that `files` has no more. What else lies there is somebody's, and stays."""
    return tuple(name for name in shards_in(published, folder) if name not in files)


def shards_in(published: Listing | None, folder: str) -> list[str]:
    """The paths of the documents that are published there."""
    there = published.files if published else {}
    return [name for name in there if name.startswith(f"{folder}/") and _SHARD.fullmatch(name.removeprefix(f"{folder}/"))]


def pin(hub: Hub, remote: Remote, documents: Mapping[str, Content], head: str, known: DatasetFacts | None) -> DatasetFacts:
    """Where the documents are: at the commit that is `known` where it has them too, else at `head`.

    So a card that somebody edits is no reason to publish the model anew.
    """
    if known and known.repo_id == remote.repo_id and known.commit != head:
        earlier = find_repo(hub, remote.repo_id, known.commit)
        if not changes(documents, earlier) and not outdated(documents, earlier, DATA_FOLDER):
            return known
    return DatasetFacts(repo_id=remote.repo_id, commit=head)


def refuse_secrets_in(rows: "Iterable[Row]") -> None:
    """Raises InputError where a document holds what looks like a secret, never showing the secret."""
    finds = list(islice(_finds(rows), _SHOWN))
    if not finds:
        return
    row, line, _ = finds[0]
    shown = "; ".join(f"{_place(row, line)}: {kind}" for row, line, kind in finds)
    raise InputError(
        f"upload_datasets: the documents hold what looks like a secret: {shown}. Nothing was published.",
        "Revoke it where it is real, take it out of the file or the file out of `data`, and train again: the model has read "
        "it too. A false alarm: put `pragma: allowlist secret` on the line.",
        file=str(row.path) if line else None,
        line=line,
    )


def _finds(rows: "Iterable[Row]") -> "Iterator[tuple[Row, int | None, str]]":
    for row in rows:
        for find in find_secrets(row.text):
            yield row, row.line_of(find.line), find.kind


def _place(row: "Row", line: int | None) -> str:
    return f"{row.source}, line {line}" if line else f"{row.source}, record {row.position}"
