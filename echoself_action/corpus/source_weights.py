"""Weights of the files of a corpus, by globs.

A file is named by its path in the working directory, one of a dataset on the Hub as `hf://datasets/owner/name/` and its path
there. Globs are those of globs.py: `*`, `?` and `[...]` match within one name, `**` any number of folders. The first glob that
matches a file applies; the weight of files that none matches is 1.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from ..hub.repo_id import SCHEME
from .globs import match_parts

_PARTS_OF_DATASET = 5  # `hf:`, nothing, `datasets`, owner, name

Weights = Sequence[tuple[str, float]]  # (glob, weight)


def source_name(path: Path) -> str:
    """The name of a file: its path in the working directory, or its whole path if it is outside."""
    plain, here = Path(os.path.normpath(path.absolute())), Path(os.path.normpath(Path.cwd()))
    return (plain.relative_to(here) if plain.is_relative_to(here) else plain).as_posix()


def source_weights(names: Sequence[str], weights: Weights) -> list[float]:
    """The weight of each of the files `names`."""
    globs = [(_parts(glob), weight) for glob, weight in weights]
    return [next((weight for parts, weight in globs if match_parts(_name_parts(name), parts)), 1.0) for name in names]


def unmatched(names: Sequence[str], weights: Weights) -> list[str]:
    """The globs that match none of the files `names`."""
    return [glob for glob, _ in weights if not any(match_parts(_name_parts(name), _parts(glob)) for name in names)]


def hidden_globs(names: Sequence[str], weights: Weights) -> list[str]:
    """The globs that match only files that an earlier glob matches too, so that they have no effect."""
    first = {next((glob for glob, _ in weights if match_parts(_name_parts(name), _parts(glob))), "") for name in names}
    none = unmatched(names, weights)
    return [glob for glob, _ in weights if glob not in first and glob not in none]


def _name_parts(name: str) -> tuple[str, ...]:
    return tuple(name.split("/")) if name.startswith(SCHEME) else Path(name).parts


def _parts(glob: str) -> tuple[str, ...]:
    if not glob.startswith(SCHEME):
        return Path(source_name(Path(glob))).parts
    parts = glob.rstrip("/").split("/")
    if len(parts) >= _PARTS_OF_DATASET:
        parts[4] = parts[4].partition("@")[0]  # a dataset is read at one revision
    return (*parts, "**") if len(parts) == _PARTS_OF_DATASET else tuple(parts)
