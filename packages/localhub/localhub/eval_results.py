"""The evaluation results of a model: the files `.eval_results/*.yaml`, as github.com/huggingface/hub-docs specifies them."""

from typing import Any

import pygit2

from .plain_yaml import PlainYamlError, load
from .repository import Repository

FOLDER = ".eval_results"
MAX_FILES = 100


def read_eval_results(repository: Repository, commit: pygit2.Commit) -> list[dict[str, Any]] | None:
    """One entry for each result, or for a file that is not valid; None if the model has no such files."""
    try:
        folder = commit.tree[FOLDER]
    except KeyError:
        return None
    if not isinstance(folder, pygit2.Tree):
        return None
    names = [item.name or "" for item in folder if isinstance(item, pygit2.Blob)]
    found: list[dict[str, Any]] = []
    for name in [name for name in names if name.endswith((".yaml", ".yml"))][:MAX_FILES]:
        path = f"{FOLDER}/{name}"
        try:
            found += [{"filename": path, "data": data} for data in _entries(repository.text(commit, path))]
        except PlainYamlError as error:
            found.append({"filename": path, "error": str(error)})
    return found or None


def _entries(text: str) -> list[dict[str, Any]]:
    """Raises PlainYamlError for text that is not a list of results."""
    entries = load(text)
    if not isinstance(entries, list):
        raise PlainYamlError("expected a list of results")
    for entry in entries:
        dataset = entry.get("dataset") if isinstance(entry, dict) else None
        if (
            not isinstance(dataset, dict)
            or not isinstance(dataset.get("id"), str)
            or not isinstance(dataset.get("task_id"), str)
        ):
            raise PlainYamlError("each result needs a dataset with id and task_id")
        if "value" not in entry:
            raise PlainYamlError("each result needs a value")
        source = entry.get("source")
        if source is not None and not (isinstance(source, dict) and isinstance(source.get("url"), str)):
            raise PlainYamlError("source: expected an object with a url")
    return entries
