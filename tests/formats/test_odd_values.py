"""An array in the place of each value that a checkpoint has: asked whether it is this or that, one has no answer."""

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
    """Each dict in `content` with each of its keys, but for those of weights; of numbered ones the first."""
    for key, value in content.items():
        if isinstance(value, dict):
            yield from values_of(value)
        if not (isinstance(value, torch.Tensor) and value.ndim):
            yield content, key
        if isinstance(key, int):
            break


def test_where_an_array_is_in_the_place_of_a_value_the_file_is_read_or_refused(tmp_path: Path) -> None:
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
