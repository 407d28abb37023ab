"""What the Hub reports about a repo in `repo_info` and in listings: properties, computed when a request asks for them."""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import pygit2

from .card import read_citation, read_description, read_front_matter
from .eval_results import read_eval_results
from .gguf import read_gguf
from .likes import likers
from .model_files import count_parameters, mask_token, read_config, transformers_info
from .repository import Repository
from .spaces import STATIC
from .storage import RepoSettings
from .tree import Entry, list_entries

Json = dict[str, Any]

# What a request may ask for by `expand`, and what is in the answers without it. As on the public Hub, a property that a repo
# has no value for is left out of the answer: here no repo has inference providers or a resource group.
_COMMON = (
    *("author", "cardData", "createdAt", "disabled", "lastModified", "likes", "private", "resourceGroup", "sha", "siblings"),
    *("tags", "trendingScore", "usedStorage"),
)
EXPANDABLE = {
    "model": (
        *_COMMON,
        *("baseModels", "childrenModelCount", "config", "downloads", "downloadsAllTime", "evalResults", "gated", "gguf"),
        *("inference", "inferenceProviderMapping", "library_name", "mask_token", "model-index", "pipeline_tag"),
        *("safetensors", "spaces", "transformersInfo", "widgetData"),
    ),
    "dataset": (
        *_COMMON,
        *("citation", "description", "downloads", "downloadsAllTime", "gated", "mainSize", "paperswithcode_id"),
    ),
    "space": (*_COMMON, "datasets", "models", "region", "runtime", "sdk", "subdomain"),
}
_INFO = {
    *("author", "cardData", "createdAt", "disabled", "downloads", "gated", "lastModified", "likes", "private", "sha"),
    *("siblings", "tags", "usedStorage"),
}
INFO = {
    "model": _INFO
    | {"modelId", "config", "gguf", "library_name", "mask_token", "model-index", "pipeline_tag", "safetensors", "spaces"}
    | {"transformersInfo", "widgetData"},
    "dataset": _INFO | {"paperswithcode_id"},
    "space": _INFO | {"datasets", "models", "runtime", "sdk", "subdomain"},
}
_LISTED = {"createdAt", "likes", "private", "tags", "trendingScore"}
LISTED = {
    "model": _LISTED | {"downloads", "library_name", "modelId", "pipeline_tag"},
    "dataset": _LISTED | {"author", "disabled", "downloads", "gated", "lastModified", "sha"},
    "space": _LISTED | {"sdk"},
}
LISTED_IN_FULL = {
    "model": LISTED["model"] | {"author", "disabled", "gated", "lastModified", "sha", "siblings"},
    "dataset": LISTED["dataset"] | {"cardData", "siblings"},
    "space": LISTED["space"]
    | {"author", "cardData", "datasets", "disabled", "lastModified", "models", "runtime", "sha", "siblings", "subdomain"},
}


class Description:
    """A repo at a commit.

    `spaces` finds the ids of the Spaces that name a model in their card, `children` counts the models that are based on it.
    """

    def __init__(
        self,
        repository: Repository,
        commit: pygit2.Commit,
        settings: RepoSettings,
        spaces: Callable[[str], list[str]],
        children: Callable[[str], int],
        with_blobs: bool = False,
    ) -> None:
        self.name = repository.name
        self._repository = repository
        self._commit = commit
        self._settings = settings
        self._spaces = spaces
        self._children = children
        self._with_blobs = with_blobs

    def show(self, names: Iterable[str]) -> Json:
        """The named properties that have a value, and always the id."""
        shown: Json = {"_id": f"{self.name.kind}:{self.name.id}", "id": self.name.id}
        values = ((name, self.value(name)) for name in sorted(names))
        return shown | {name: value for name, value in values if value is not None}

    def value(self, name: str) -> Any:
        """One property; None if the repo has no such."""
        compute = _PROPERTIES.get(name)
        return None if compute is None else compute(self)

    @cached_property
    def card(self) -> Json:
        return read_front_matter(self.readme)

    @cached_property
    def tags(self) -> list[str]:
        """The Hub's tags: from the card's metadata, and of a model also from its files."""
        found = dict.fromkeys(_card_tags(self.card, of_dataset=self.name.kind == "dataset"))
        if self.name.kind == "model":
            found |= dict.fromkeys(self._file_tags())
        return list(found)

    @cached_property
    def config(self) -> Json | None:
        return read_config(self._repository, self._commit)

    @cached_property
    def safetensors(self) -> Json | None:
        return count_parameters(self._repository, self._commit)

    @property
    def last_modified(self) -> str:
        return date(self._commit)

    @property
    def sha(self) -> str:
        return str(self._commit.id)

    @property
    def settings(self) -> RepoSettings:
        return self._settings

    @property
    def siblings(self) -> list[Json]:
        entries = list_entries(self._repository, self._commit, "", recursive=True)
        return [_sibling(entry, self._with_blobs) for entry in entries if not entry.is_folder]

    @property
    def used_storage(self) -> int:
        """In bytes: the large files of all commits, as the Hub counts."""
        return sum(path.stat().st_size for path in (self._repository.path / "lfs" / "objects").glob("*/*/*"))

    @cached_property
    def likes(self) -> int:
        return len(likers(self._repository))

    @property
    def main_size(self) -> int:
        """In bytes: the files of this commit."""
        return sum(entry.size for entry in list_entries(self._repository, self._commit, "", recursive=True))

    @property
    def children(self) -> int:
        return self._children(self.name.id)

    @property
    def eval_results(self) -> list[Json] | None:
        return read_eval_results(self._repository, self._commit)

    @cached_property
    def gguf(self) -> Json | None:
        return read_gguf(self._repository, self._commit)

    @property
    def readme(self) -> str:
        return self._repository.text(self._commit, "README.md")

    @property
    def spaces(self) -> list[str]:
        return self._spaces(self.name.id)

    def ids(self, key: str) -> list[str]:
        """The repo ids under a key of the card, which may be one or a list."""
        return [item for item in _items(self.card.get(key)) if isinstance(item, str)]

    def _file_tags(self) -> Iterator[str]:
        names = [item.name or "" for item in self._commit.tree]
        for tag, is_one in _FORMATS.items():
            if any(is_one(name) for name in names):
                yield tag
        model_type = (self.config or {}).get("model_type")
        if isinstance(model_type, str):
            yield model_type


_FORMATS: dict[str, Callable[[str], bool]] = {
    "safetensors": lambda name: name.endswith(".safetensors"),
    "pytorch": lambda name: name.startswith("pytorch_model") and name.endswith(".bin"),
    "gguf": lambda name: name.endswith(".gguf"),
    "onnx": lambda name: name.endswith(".onnx"),
}
_PROPERTIES: dict[str, Callable[[Description], Any]] = {
    "author": lambda of: of.name.owner,
    "baseModels": lambda of: {"models": [{"id": one} for one in of.ids("base_model")]} if of.ids("base_model") else None,
    "cardData": lambda of: of.card,
    "childrenModelCount": lambda of: of.children,
    "citation": lambda of: read_citation(of.readme),
    "config": lambda of: of.config,
    "createdAt": lambda of: of.settings.created_at,
    "datasets": lambda of: of.ids("datasets"),
    "description": lambda of: read_description(of.readme),
    "disabled": lambda of: of.settings.disabled,
    "downloads": lambda _: 0,
    "downloadsAllTime": lambda _: 0,
    "evalResults": lambda of: of.eval_results,
    "gated": lambda of: of.settings.gated,
    "gguf": lambda of: of.gguf,
    "lastModified": lambda of: of.last_modified,
    "library_name": lambda of: of.card.get("library_name"),
    "likes": lambda of: of.likes,
    "mainSize": lambda of: of.main_size,
    "mask_token": lambda of: mask_token(of.config),
    "model-index": lambda of: of.card.get("model-index"),
    "modelId": lambda of: of.name.id,
    "models": lambda of: of.ids("models"),
    "paperswithcode_id": lambda of: of.card.get("paperswithcode_id"),
    "pipeline_tag": lambda of: of.card.get("pipeline_tag"),
    "private": lambda of: of.settings.private,
    "region": lambda _: "us",  # the Hub's default
    # only static Spaces run here
    "runtime": lambda of: {"stage": "RUNNING" if of.card.get("sdk") == STATIC else "STOPPED"},
    "safetensors": lambda of: of.safetensors,
    "sdk": lambda of: of.card.get("sdk"),
    "sha": lambda of: of.sha,
    "siblings": lambda of: of.siblings,
    "spaces": lambda of: of.spaces,
    "subdomain": lambda of: of.name.id.lower().replace("/", "-").replace("_", "-").replace(".", "-"),
    "tags": lambda of: of.tags,
    "transformersInfo": lambda of: transformers_info(of.config),
    "trendingScore": lambda _: 0,
    "usedStorage": lambda of: of.used_storage,
    "widgetData": lambda of: of.card.get("widget"),
}


def date(commit: pygit2.Commit) -> str:
    return datetime.fromtimestamp(commit.commit_time, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _card_tags(card: Json, of_dataset: bool) -> Iterator[str]:
    """One tag for each value, most with a prefix. The languages of a dataset have one, those of a model do not."""
    plain = ("tags",) if of_dataset else ("tags", "library_name", "pipeline_tag", "language")
    prefixed = [(key, f"{key}:") for key in (_DATASET_KEYS if of_dataset else ())]
    prefixed += [("license", "license:"), ("datasets", "dataset:"), ("base_model", "base_model:")]
    for key, prefix in [*((key, "") for key in plain), *prefixed]:
        for item in _items(card.get(key)):
            yield f"{prefix}{item}"


_DATASET_KEYS = (
    *("task_categories", "task_ids", "language", "language_creators", "annotations_creators", "multilinguality"),
    *("size_categories", "source_datasets", "benchmark"),
)


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value in (None, "") else [value]


def _sibling(entry: Entry, with_blob: bool) -> Json:
    sibling: Json = {"rfilename": entry.path}
    if with_blob:
        sibling |= {"size": entry.size, "blobId": entry.oid}
        if entry.pointer:
            sibling["lfs"] = {"sha256": entry.pointer.oid, "size": entry.size, "pointerSize": entry.stored_size}
    return sibling
