"""Each test with the fixture `isa` runs once for every instruction set that this CPU can use."""

import importlib.metadata
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import hatch_build
from echoself_action import native

from ..conftest import Once


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
def load_from(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """Makes a folder with `csrc` the only place where a library is looked for."""

    def load(folder: Path) -> None:
        monkeypatch.setattr(native, "__file__", str(folder / "__init__.py"))
        monkeypatch.setattr(importlib.metadata, "distribution", _not_installed)
        native._library.cache_clear()

    yield load
    native._library.cache_clear()


@pytest.fixture
def copy(load_from: Callable[[Path], None], tmp_path: Path) -> Path:
    """A copy of the sources, without a library, as the only place where one is looked for."""
    shutil.copytree(Path(native.__file__).with_name("csrc"), tmp_path / "csrc")
    load_from(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def compiled(once: Once) -> Callable[[str, str], Path]:
    """`compiled(machine, compiler)`: a folder with `csrc`, the library, and driver.c as the program `driver`."""
    sources = Path(native.__file__).with_name("csrc")

    def build(machine: str, compiler: str) -> Path:
        def make(folder: Path) -> None:
            shutil.copytree(sources, folder / "csrc")
            hatch_build.compile_native(folder, compiler=compiler, machine=machine)
            source = Path(__file__).with_name("driver.c")
            command = [compiler, "-O1", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-I", folder / "csrc", source, "-ldl"]
            subprocess.run([*command, "-o", folder / "driver"], check=True)

        return once(f"kernels-{machine}-{compiler}", make)[0]

    return build
