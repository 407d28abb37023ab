"""Reads a `.pt` of another program: maps it into memory, without running code in it, and detects its layout."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ...checkpoint.arrays import Array
from ..detect_layout import describe, detect_layout
from ..registry import Layout, Origin
from .archive import Archive, open_archive, refuse
from .legacy import is_legacy, open_legacy
from .pickle_check import check_pickle
from .unpickle import unpickle


@dataclass(frozen=True)
class TorchFile:
    """A `.pt` of another program. `weights` are its tensors without name prefixes, as views of the mapped file.

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
        return Origin(self.path, self.layout.name, self.archive.fingerprint, release=self.archive.release)

    def release(self) -> None:
        """Let go of the pages of the mapped file."""
        self.archive.release()

    def refuse(self, why: str, *hint: str) -> NoReturn:
        """Raises CheckpointError for a file that contradicts itself or records too little. `hint` says what to change."""
        refuse(self.path, why, *hint)


def read_torch_file(path: Path) -> TorchFile:
    """Read the `.pt` at `path`. Tensors are read from the file when they are used.

    Raises CheckpointError if it is not a complete checkpoint of a known layout.
    """
    if is_legacy(path):
        archive = open_legacy(path)  # which needs the check to find the tensors
    else:
        archive = open_archive(path)
        check_pickle(archive)
    try:
        content = unpickle(archive)
    except Exception as error:  # a pickle with only allowed globals may still be invalid
        refuse(path, f"can't be unpickled ({type(error).__name__}: {' '.join(str(error).split())[:200]})")
    layout, weights = detect_layout(archive, content)
    return TorchFile(archive, layout, content, weights, describe(archive, layout, content, weights))
