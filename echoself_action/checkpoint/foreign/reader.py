"""A foreign `.pt`, read: mapped into memory, with nothing in it run, and told by what it holds."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from .archive import Archive, open_archive, refuse
from .layouts import Layout, describe, recognise
from .pickles import check_pickle, numpy_globals


@dataclass(frozen=True)
class Foreign:
    """A checkpoint of somebody else's. `weights` are its tensors under plain names, as views of the mapped file.

    `description` is one line: layout, architecture, step, loss, size.
    """

    archive: Archive
    layout: Layout
    content: Mapping[Any, Any]
    weights: dict[str, Tensor]
    description: str

    @property
    def path(self) -> Path:
        return self.archive.path

    def refuse(self, why: str, *hint: str) -> NoReturn:
        """Raises CheckpointError: the file was read, and contradicts itself, or says too little. `hint` is what to change."""
        refuse(self.path, why, *hint)


def read_foreign(path: Path) -> Foreign:
    """Read the `.pt` at `path`. Tensors stay in the file until they are used.

    Raises CheckpointError, with one sentence, for whatever is not a whole checkpoint of a known layout.
    """
    archive = open_archive(path)
    check_pickle(archive)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(numpy_globals()):  # type: ignore[no-untyped-call,unused-ignore]
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # a pickle that passed the look at its names can still be nonsense
        told = error.__context__ or error  # PyTorch's own words around it advise to read it with code and all
        reason = next((line.strip() for line in str(told).splitlines() if line.strip()), "")
        refuse(path, f"can't be put together ({type(told).__name__}: {reason[:200]})")
    layout, weights = recognise(archive, content)
    for name, tensor in weights.items():
        check_tensor(archive, name, tensor)
    return Foreign(archive, layout, content, weights, describe(archive, layout, content, weights))


def check_tensor(archive: Archive, name: str, tensor: Tensor) -> None:
    """Refuse a tensor whose numbers are not all in the file, each once: a small file can claim a huge one otherwise."""
    plain = tensor.layout == torch.strided and tensor.device.type == "cpu"
    if not plain or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        refuse(archive.path, f"says that {name[:100]} has the shape {tuple(tensor.shape)}, and has not so many numbers")
