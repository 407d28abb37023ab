"""An array in place of each value of a checkpoint: comparing one does not return a bool."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from echoself_action.errors import CheckpointError
from echoself_action.formats.import_checkpoint import read_checkpoint_file

from .mutations import load, seeds


def values_of(content: dict[Any, Any]) -> Iterator[tuple[dict[Any, Any], Any]]:
    """Each dict in `content` with each of its keys, except those of weights; of numbered keys only the first."""
    for key, value in content.items():
        if isinstance(value, dict):
            yield from values_of(value)
        if not (isinstance(value, torch.Tensor) and value.ndim):
            yield content, key
        if isinstance(key, int):
            break


def test_an_array_in_place_of_any_value_is_read_or_refused(tmp_path: Path) -> None:
    path, tried = tmp_path / "ckpt.pt", 0
    for start in seeds(tmp_path):
        content: Any = load(io.BytesIO(start))
        for place, key in values_of(content):
            before, place[key] = place[key], torch.ones(3)
            torch.save(content, path)
            place[key] = before
            with contextlib.suppress(CheckpointError):
                read_checkpoint_file(path, lambda _: None)
            tried += 1
    assert tried > 100
