"""The library of the C files: when it is taken, and what is built where there is no compiler."""

import importlib.metadata
import importlib.util
import pkgutil
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hatchling.builders.wheel import WheelBuilder

from echoself_action import native

ROOT = Path(__file__).parents[2]
NATIVE = Path(native.__file__).parent


def _nowhere(name: str) -> Any:
    raise importlib.metadata.PackageNotFoundError(name)


def test_a_library_of_other_sources_is_not_taken(native_code: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    looked_up = native._library.__wrapped__
    shutil.copytree(NATIVE / "csrc", tmp_path / "csrc")
    shutil.copy(NATIVE / "native.bin", tmp_path)
    monkeypatch.setattr(native, "__file__", str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.metadata, "distribution", _nowhere)
    assert looked_up()
    header = tmp_path / "csrc/gemm.h"
    header.write_text(header.read_text() + "\n")
    assert looked_up() is None
    shutil.copy(NATIVE / "csrc/gemm.h", header)
    assert looked_up()
    (tmp_path / "native.bin").unlink()
    assert looked_up() is None


def test_python_does_not_import_the_library_as_a_module(native_code: None) -> None:
    assert "native" not in {module.name for module in pkgutil.iter_modules([str(NATIVE)])}
    assert importlib.util.find_spec("echoself_action.native.native") is None


def test_a_library_that_cant_be_loaded_is_as_one_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "native.bin").write_bytes(b"of another machine")
    monkeypatch.setattr(native, "__file__", str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.metadata, "distribution", _nowhere)
    assert native._library.__wrapped__() is None


def test_the_library_of_the_installed_package_is_taken_where_there_is_none_beside_the_sources(
    native_code: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here, installed = tmp_path / "here", tmp_path / "installed"
    shutil.copytree(NATIVE / "csrc", here / "csrc")
    (installed / "echoself_action/native").mkdir(parents=True)
    shutil.copy(NATIVE / "native.bin", installed / "echoself_action/native")
    (installed / "echoself_action-0.dist-info").mkdir()
    (installed / "echoself_action-0.dist-info/METADATA").write_text("Name: echoself-action\nVersion: 0\n")
    (found,) = importlib.metadata.distributions(name="echoself-action", path=[str(installed)])
    monkeypatch.setattr(native, "__file__", str(here / "__init__.py"))
    monkeypatch.setattr(importlib.metadata, "distribution", lambda _: found)
    assert native._library.__wrapped__()


def test_a_machine_whose_cpu_it_is_not_for_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    assert native.why_not(torch.bfloat16) == "it is for bfloat16, on a CPU that multiplies it by AVX-512"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True, "amx_bf16": True})
    assert native.why_not(torch.bfloat16) == "PyTorch's products are for a CPU with AMX"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    monkeypatch.setattr(native, "_library", lambda: None)
    assert native.why_not(torch.bfloat16) == "it was not compiled for this machine when this package was installed"
    assert native.why_not(torch.float16) == native.why_not(torch.float32) != native.why_not(torch.bfloat16)


@pytest.mark.parametrize("compiler", ["", "false", "a-compiler-that-is-not-there"])
def test_a_wheel_has_the_library_where_there_is_a_compiler_and_is_whole_where_there_is_none(
    native_code: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], compiler: str
) -> None:
    source = tmp_path / "source"
    shutil.copytree(NATIVE, source / "echoself_action/native", ignore=shutil.ignore_patterns("__pycache__"))
    (source / "echoself_action/__init__.py").touch()
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    if compiler:
        monkeypatch.setenv("CC", compiler)
    (wheel,) = WheelBuilder(str(source)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert "echoself_action/native/csrc/gemm.h" in names
    assert ("echoself_action/native/native.bin" in names) == (not compiler)
    assert ("none-any" in wheel) == bool(compiler)
    assert ("training on a CPU is slower without it" in "".join(capsys.readouterr())) == bool(compiler)
    assert (source / "echoself_action/native/native.bin").is_file() == (not compiler)
    assert not list(source.rglob("*.part"))
