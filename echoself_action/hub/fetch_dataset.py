"""`hf://datasets/owner/name@revision` in `data`: the Parquet files of a dataset repo, as a corpus."""

import shutil
from dataclasses import replace
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from ..corpus.parquet_dataset import is_ours, restore
from ..errors import InputError
from .endpoint import Hub
from .fetch import download
from .repo import list_repo
from .repo_id import parse_source


def fetch_dataset(hub: Hub, source: str, cache: Path) -> list[Path]:
    """The files of the corpus in `cache`: those that a dataset of ours was made of, else its Parquet as it is.

    What was fetched of the same commit before is used again. Raises HubError where the dataset can't be had, InputError where
    it holds no Parquet.
    """
    named = parse_source(source)
    assert named
    repo_id, revision = named
    datasets = replace(hub, kind="dataset")  # to read a public one needs no token of its own
    listing = list_repo(datasets, repo_id, revision)
    wanted = [file for name, file in sorted(listing.files.items()) if name.endswith(".parquet") and _stays_inside(name)]
    if not wanted:
        raise InputError(
            f"data: {source} has no Parquet file at commit {listing.commit}, so the corpus was not read.",
            "Name a dataset that was published with upload_datasets, or one in Parquet with a `text` or `messages` column.",
        )
    folder = cache / repo_id.replace("/", "--") / listing.commit
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent) as place:
            fetched = [download(datasets, repo_id, listing.commit, file, Path(place) / "parquet") for file in wanted]
            files = Path(place) / "files"
            files.mkdir()
            if all(map(is_ours, fetched)):
                restore(fetched, files)
            else:
                for number, path in enumerate(fetched):
                    shutil.move(path, files / f"{number:05}.parquet")
            files.rename(folder)
    hub.log(f"{source} is at commit {listing.commit}")
    return sorted(folder.iterdir())


def _stays_inside(name: str) -> bool:
    """Git has no other names; a Hub may be anybody's."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts
