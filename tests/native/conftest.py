"""Each test with the fixture `isa` runs once for every instruction set that this CPU can use."""

import importlib.metadata
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from echoself_action import native


@pytest.fixture(params=list(native._usable()) or ["none"])
def isa(native_code: None, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The instruction set that ECHOSELF_ISA names."""
    monkeypatch.setenv("ECHOSELF_ISA", request.param)
    return str(request.param)


@pytest.fixture
def dtype(isa: str) -> torch.dtype:
    """The dtype of its matrix products."""
    return native.dtype_of(isa)


@pytest.fixture(autouse=True)
def _same_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def _not_installed(name: str) -> Any:
    raise importlib.metadata.PackageNotFoundError(name)


@pytest.fixture
def copy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A copy of the sources, without a library, as the only place where one is looked for."""
    shutil.copytree(Path(native.__file__).with_name("csrc"), tmp_path / "csrc")
    monkeypatch.setattr(native, "__file__", str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.metadata, "distribution", _not_installed)
    native._library.cache_clear()
    yield tmp_path
    native._library.cache_clear()
