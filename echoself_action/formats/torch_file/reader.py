"""A foreign `.pt`, read: mapped into memory, with nothing in it run, and told by what it holds."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ...checkpoint.arrays import Array
from ..detect_layout import describe, recognise
from ..registry import Layout, Origin
from .archive import Archive, open_archive, refuse
from .pickle_check import check_pickle
from .unpickle import unpickled


@dataclass(frozen=True)
class TorchFile:
    """A checkpoint of somebody else's. `weights` are its tensors under plain names, as views of the mapped file.

    `description` is one line: layout, architecture, step, loss, size.
    """

    archive: Archive
    layout: Layout
    content: Mapping[Any, Any]
    weights: dict[str, Array]
    description: str

    @property
    def path(self) -> Path:
        return self.archive.path

    @property
    def origin(self) -> Origin:
        return Origin(self.path, self.layout.name, self.archive.fingerprint, self.archive.release)

    def refuse(self, why: str, *hint: str) -> NoReturn:
        """Raises CheckpointError: the file was read, and contradicts itself, or says too little. `hint` is what to change."""
        refuse(self.path, why, *hint)


def read_torch_file(path: Path) -> TorchFile:
    """Read the `.pt` at `path`. Tensors stay in the file until they are used.

    Raises CheckpointError, with one sentence, for whatever is not a whole checkpoint of a known layout.
    """
    archive = open_archive(path)
    check_pickle(archive)
    try:
        content = unpickled(archive)
    except Exception as error:  # a pickle that passed the look at its names can still be nonsense
        refuse(path, f"can't be put together ({type(error).__name__}: {' '.join(str(error).split())[:200]})")
    layout, weights = recognise(archive, content)
    return TorchFile(archive, layout, content, weights, describe(archive, layout, content, weights))
