"""The compiled library: which one is loaded, what it exports, and wheels built with and without a compiler."""

import hashlib
import importlib.metadata
import importlib.util
import os
import pkgutil
import re
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hatchling.builders.wheel import WheelBuilder

from echoself_action import native
from tests.conftest import require_native_code

ROOT = Path(__file__).parents[2]
NATIVE = Path(native.__file__).parent
load = native._library.__wrapped__


def _not_installed(name: str) -> Any:
    raise importlib.metadata.PackageNotFoundError(name)


@pytest.fixture
def copy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A copy of the sources, without a library, as the only place where one is looked for."""
    shutil.copytree(NATIVE / "csrc", tmp_path / "csrc")
    monkeypatch.setattr(native, "__file__", str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.metadata, "distribution", _not_installed)
    return tmp_path


def digest(folder: Path) -> str:
    return hashlib.blake2b(b"".join(f.read_bytes() for f in sorted(folder.glob("csrc/*"))), digest_size=16).hexdigest()


def test_a_library_of_other_sources_is_refused(native_code: None, copy: Path) -> None:
    shutil.copy(NATIVE / "native.bin", copy)
    assert not isinstance(load(), str)
    header = copy / "csrc/gemm.h"
    header.write_text(header.read_text() + "\n")
    assert load() == f"{copy}/native.bin was compiled from other sources: install the package again"
    shutil.copy(NATIVE / "csrc/gemm.h", header)
    assert not isinstance(load(), str)
    (copy / "native.bin").unlink()
    assert load() == "they were not compiled when this package was installed, which needs a C compiler"


def test_a_library_whose_structs_differ_from_the_bindings_is_refused(native_code: None, copy: Path) -> None:
    header, sources = copy / "csrc/api.h", sorted((copy / "csrc").glob("*.c"))
    original = header.read_text()
    header.write_text(original.replace("float epsilon;", "float epsilon;\n  const float *inserted;"))
    assert header.read_text() != original
    flags = ["-shared", "-fPIC", "-O1", "-std=gnu11", "-pthread", f'-DSOURCES_DIGEST="{digest(copy)}"']
    subprocess.run(["cc", *flags, "-o", copy / "native.bin", *sources, "-lm"], check=True)
    assert load() == f"{copy}/native.bin was compiled from other sources: install the package again"


SIZES = "static const unsigned long none[1]; int echoself_struct_sizes(const unsigned long **s) { *s = none; return 0; }"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("int forward(void) { return 0; }", "is not a library of this package"),
        (f"const char *echoself_sources_digest(void) {{ return DIGEST; }} {SIZES}", "was compiled from other sources"),
        ('const char *echoself_sources_digest(void) { return ""; }', "they need GCC on x86-64"),
    ],
)
def test_a_foreign_library_is_refused(native_code: None, copy: Path, source: str, reason: str) -> None:
    (copy / "other.c").write_text(source)
    define = f'-DDIGEST="{digest(copy)}"'
    subprocess.run(["cc", "-shared", "-fPIC", define, "-o", copy / "native.bin", copy / "other.c"], check=True)
    assert reason in load()


def test_a_library_that_cant_be_loaded_is_refused(copy: Path) -> None:
    (copy / "native.bin").write_bytes(b"of another machine")
    assert load().startswith(f"{copy}/native.bin can't be loaded: ")


def test_only_the_interface_is_exported(native_code: None) -> None:
    """A name such as `forward` could be resolved to that of another library in the process."""
    listed = subprocess.run(["nm", "-D", "--defined-only", NATIVE / "native.bin"], capture_output=True, text=True, check=True)
    exported = {line.split()[-1] for line in listed.stdout.splitlines()}
    declared = set(re.findall(r"^EXPORT .*?(\w+)\(", (NATIVE / "csrc/api.h").read_text(), re.MULTILINE))
    assert exported == declared
    assert all(name.startswith("echoself_") for name in exported)


def test_every_function_has_its_types_declared(native_code: None) -> None:
    declared = set(re.findall(r"^EXPORT .*?(\w+)\(", (NATIVE / "csrc/api.h").read_text(), re.MULTILINE))
    assert all(getattr(native.library(), name).argtypes is not None for name in declared)


def test_python_does_not_import_the_library_as_a_module(native_code: None) -> None:
    assert "native" not in {module.name for module in pkgutil.iter_modules([str(NATIVE)])}
    assert importlib.util.find_spec("echoself_action.native.native") is None


def test_the_installed_packages_library_is_loaded_if_there_is_none_beside_the_sources(
    native_code: None, monkeypatch: pytest.MonkeyPatch, copy: Path
) -> None:
    installed = copy / "installed"
    (installed / "echoself_action/native").mkdir(parents=True)
    shutil.copy(NATIVE / "native.bin", installed / "echoself_action/native")
    (installed / "echoself_action-0.dist-info").mkdir()
    (installed / "echoself_action-0.dist-info/METADATA").write_text("Name: echoself-action\nVersion: 0\n")
    (found,) = importlib.metadata.distributions(name="echoself-action", path=[str(installed)])
    monkeypatch.setattr(importlib.metadata, "distribution", lambda _: found)
    assert not isinstance(load(), str)


def test_the_reason_names_what_the_cpu_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    assert native.why_not(torch.bfloat16) == "they need dtype: bfloat16 and a CPU with AVX-512 BF16"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True, "amx_bf16": True})
    assert native.why_not(torch.bfloat16) == "this CPU has AMX, which PyTorch's kernels use and they do not"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    monkeypatch.setattr(native, "_library", lambda: "they were not compiled")
    assert native.why_not(torch.bfloat16) == "they were not compiled"
    assert native.why_not(torch.float16) == native.why_not(torch.float32) != native.why_not(torch.bfloat16)


@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
@pytest.mark.parametrize("capabilities", [{"avx2": True}, {"avx512_bf16": True}])
def test_ci_fails_if_the_kernels_are_not_compiled(monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool]) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    monkeypatch.setattr(native, "_library", lambda: "they were not compiled")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(AssertionError, match=r"must be compiled under CI=true.*they were not compiled"):
        require_native_code()
    monkeypatch.setenv("CI", "false")
    with pytest.raises(pytest.skip.Exception, match="native kernels can't be used: they"):
        require_native_code()


def test_github_runs_the_tests_with_ci_true() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())
    environments = [workflow.get("env", {}), *(job.get("env", {}) for job in workflow["jobs"].values())]
    assert all("CI" not in environment for environment in environments)  # a runner sets it to true
    assert os.access(ROOT / ".ci/run", os.X_OK)
    assert "ECHOSELF_REQUIRE_SHARED=true" in (ROOT / ".ci/run").read_text()


@pytest.mark.parametrize("compiler", ["", "false", "a-compiler-that-is-not-there"])
def test_a_wheel_has_the_library_if_there_is_a_compiler_and_is_complete_without_one(
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
