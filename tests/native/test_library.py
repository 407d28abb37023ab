"""The compiled library: which one is loaded, which kernels of it, what it exports, and wheels with and without a compiler."""

import importlib.metadata
import importlib.util
import os
import pkgutil
import platform
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
import torch
import yaml
from hatchling.builders.wheel import WheelBuilder

import hatch_build
from echoself_action import native
from echoself_action.errors import InputError
from tests.conftest import require_native_code

ROOT = Path(__file__).parents[2]
NATIVE = Path(native.__file__).parent


def reload() -> str | None:
    """`native.load_error` of the library that is there now."""
    native._library.cache_clear()
    return native.load_error()


def test_a_library_of_other_sources_is_refused(native_code: None, copy: Path) -> None:
    shutil.copy(NATIVE / "native.bin", copy)
    assert reload() is None
    for header in (copy / "csrc/gemm.h", copy / "csrc/isa/neon.h"):
        header.write_text(header.read_text() + "\n")
        assert reload() == f"{copy}/native.bin was compiled from other sources: install the package again"
        shutil.copy(NATIVE / header.relative_to(copy), header)
        assert reload() is None
    (copy / "native.bin").unlink()
    assert reload() == "they were not compiled when this package was installed, which needs GCC or Clang"
    assert native.why_not(torch.float32) == native.why_not(torch.bfloat16) == reload()


def compile_dispatch(folder: Path, *more: str | Path, sets: str = "") -> None:
    """A library without any kernels but those in `more`."""
    options = ["-shared", "-fPIC", "-std=gnu11", "-pthread", f"-DINSTRUCTION_SETS={sets}"]
    define = f'-DSOURCES_DIGEST="{hatch_build.digest(folder / "csrc")}"'
    sources = [folder / "csrc/pool.c", folder / "csrc/dispatch.c", *more]
    subprocess.run(["cc", *options, define, "-o", folder / "native.bin", *sources], check=True)


def test_a_library_whose_structs_differ_from_the_bindings_is_refused(native_code: None, copy: Path) -> None:
    header = copy / "csrc/api.h"
    original = header.read_text()
    header.write_text(original.replace("float epsilon, dropout;", "float epsilon, dropout;\n  const float *inserted;"))
    assert header.read_text() != original
    compile_dispatch(copy)
    assert reload() == f"{copy}/native.bin was compiled from other sources: install the package again"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("int forward(void) { return 0; }", "is not a library of this package"),
        ('const char *echoself_sources_digest(void) { return ""; }', "was compiled from other sources"),
        ("const char *echoself_sources_digest(void) { return DIGEST; }", "is not a library of this package"),
    ],
)
def test_a_foreign_library_is_refused(native_code: None, copy: Path, source: str, reason: str) -> None:
    (copy / "other.c").write_text(source)
    define = f'-DDIGEST="{hatch_build.digest(copy / "csrc")}"'
    subprocess.run(["cc", "-shared", "-fPIC", define, "-o", copy / "native.bin", copy / "other.c"], check=True)
    assert reason in (reload() or "")


def test_a_library_for_another_kind_of_machine_has_no_kernels(native_code: None, copy: Path) -> None:
    hatch_build.compile_native(copy, machine="riscv64")
    assert reload() == f"{copy}/native.bin was compiled without any: they are for Linux on x86-64 and aarch64"


def test_a_library_that_cant_be_loaded_is_refused(copy: Path) -> None:
    (copy / "native.bin").write_bytes(b"of another machine")
    assert (reload() or "").startswith(f"{copy}/native.bin can't be loaded: ")


def test_a_compiler_that_knows_some_instruction_sets_compiles_those(
    native_code: None, copy: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    *others, last = hatch_build.INSTRUCTION_SETS[platform.machine()]
    old = copy / "old-compiler"
    refused = " | ".join(f"*isa/{isa}.h*" for isa in others)
    old.write_text(f'#!/bin/sh\ncase "$*" in {refused}) echo "unknown option" >&2; exit 1;; esac\nexec cc "$@"\n')
    old.chmod(0o755)
    hatch_build.compile_native(copy, str(old), extra=["-O0"])
    said = capfd.readouterr().err
    assert all(f"{old} can't compile the kernels for {isa}, so there are none:\nunknown option" in said for isa in others)
    assert reload() is None
    assert native._compiled() == [last]
    dtype = native.dtype_of(last)
    other = next(one for one in map(native.dtype_of, native.DTYPE_NAMES) if one is not dtype)
    assert native.why_not(other) == f"there are none for dtype: {str(other)[6:]}, because the C compiler knew only: {last}"
    monkeypatch.setenv("ECHOSELF_ISA", others[0])
    with pytest.raises(InputError, match=f"the kernels for '{others[0]}' can't be used: they were compiled for {last} only"):
        native.instruction_set(dtype)


def test_a_compiler_that_compiles_nothing_leaves_the_library_as_it_was(copy: Path) -> None:
    (copy / "native.bin").write_text("from before")
    with pytest.raises(OSError, match="false compiled no kernels"):
        hatch_build.compile_native(copy, "false")
    assert sorted(path.name for path in copy.iterdir()) == ["csrc", "native.bin"]
    assert (copy / "native.bin").read_text() == "from before"


def test_kernels_that_the_cpu_cant_run_are_not_used(
    native_code: None, copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = "neon" if platform.machine() == "x86_64" else "avx2"
    (copy / "foreign.c").write_text(f'#include "csrc/api.h"\nconst Kernels echoself_kernels_{foreign} = {{0}};\n')
    compile_dispatch(copy, copy / "foreign.c", sets=f"X({foreign})")
    assert reload() is None
    assert native._usable() == {}
    assert native.fastest_dtype() is None
    assert native.why_not(torch.float32) == f"those for dtype: float32 need a CPU with one of these instruction sets: {foreign}"
    monkeypatch.setenv("ECHOSELF_ISA", foreign)
    with pytest.raises(InputError, match=r"this CPU does not have the instructions\. Nothing was computed") as raised:
        native.fastest_dtype()
    assert raised.value.hint == "Unset ECHOSELF_ISA: PyTorch then computes everything."


@pytest.mark.parametrize("name", ["avx1024", "AVX2", "neon_bf16" if platform.machine() == "x86_64" else "avx2"])
def test_a_forced_instruction_set_that_isnt_there_is_an_error_that_lists_what_can_be_used(
    native_code: None, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("ECHOSELF_ISA", name)
    with pytest.raises(InputError, match=f"the kernels for '{name}' can't be used: they were compiled for") as raised:
        native.instruction_set(torch.float32)
    assert raised.value.hint == f"Unset ECHOSELF_ISA, or set it to one of: {', '.join(native._usable())}."


def test_a_forced_instruction_set_is_used_and_its_counterpart_for_the_other_dtype(isa: str, dtype: torch.dtype) -> None:
    assert native.instruction_set(dtype) == isa
    assert native.fastest_dtype() is dtype
    other = next(one for one in map(native.dtype_of, native.DTYPE_NAMES) if one is not dtype)
    counterpart = native.instruction_set(other)
    if counterpart is None:
        assert isa == "avx512"  # on a CPU without its BF16
        assert native.why_not(other) == f"ECHOSELF_ISA is {isa}, which has none for dtype: {str(other)[6:]}"
    else:
        assert {isa, counterpart} in [{"avx2", "avx2_bf16"}, {"avx512", "avx512_bf16"}, {"neon", "neon_bf16"}]
    assert native.why_not(torch.float16) == "there are none for dtype: float16"


FEATURES = {  # as Linux spells them in /proc/cpuinfo
    "avx512_bf16": "avx512f avx512bw avx512vl avx512dq avx512_bf16",
    "avx512": "avx512f avx512bw avx512vl avx512dq",
    "avx2": "avx2 fma",
    "avx2_bf16": "avx2 fma",
    "neon_bf16": "bf16",
    "neon": "asimd",
}


@pytest.mark.skipif(not Path("/proc/cpuinfo").is_file(), reason="needs /proc/cpuinfo")
def test_what_a_cpu_can_run_follows_from_its_features_and_not_from_its_name(native_code: None) -> None:
    """Hypervisors hide features of the CPU that they name."""
    listed = re.search(r"^(?:flags|Features)\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    assert listed
    present = set(listed[1].split())
    assert list(native._usable()) == [isa for isa in native._compiled() if set(FEATURES[isa].split()) <= present]
    assert not re.search("cpu_is|model|vendor|brand", (NATIVE / "csrc/dispatch.c").read_text())


def test_only_the_interface_is_exported(native_code: None) -> None:
    """A name such as `forward` could be resolved to that of another library in the process."""
    listed = subprocess.run(["nm", "-D", "--defined-only", NATIVE / "native.bin"], capture_output=True, text=True, check=True)
    exported = {line.split()[-1] for line in listed.stdout.splitlines()}
    declared = set(re.findall(r"^EXPORT .*?(\w+)\(", (NATIVE / "csrc/api.h").read_text(), re.MULTILINE))
    assert exported == declared
    assert all(name.startswith("echoself_") for name in exported)


def test_every_function_has_its_types_declared(native_code: None) -> None:
    declared = set(re.findall(r"^EXPORT .*?(\w+)\(", (NATIVE / "csrc/api.h").read_text(), re.MULTILINE))
    library = native._library()
    native._usable()
    assert all(getattr(library, name).argtypes is not None for name in declared)


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
    assert reload() is None


@pytest.mark.skipif(not shutil.which("cc") or platform.system() != "Linux", reason="needs a C compiler, on Linux")
@pytest.mark.skipif(platform.machine() not in hatch_build.INSTRUCTION_SETS, reason="needs x86-64 or aarch64")
def test_ci_fails_if_the_kernels_are_not_compiled(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(AssertionError, match=r"must be compiled under CI=true.*they were not compiled"):
        require_native_code()
    (copy / "foreign.c").write_text('#include "csrc/api.h"\nconst Kernels echoself_kernels_foreign = {0};\n')
    compile_dispatch(copy, copy / "foreign.c", sets="X(foreign)")
    assert reload() is None
    with pytest.raises(AssertionError, match="must be compiled for all instruction sets under CI=true"):
        require_native_code()
    monkeypatch.setenv("CI", "false")
    (copy / "native.bin").unlink()
    native._library.cache_clear()
    with pytest.raises(pytest.skip.Exception, match="native kernels can't be used: they were not compiled"):
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
    assert {"echoself_action/native/csrc/gemm.h", "echoself_action/native/csrc/isa/avx2.h"} <= names
    assert ("echoself_action/native/native.bin" in names) == (not compiler)
    assert ("none-any" in wheel) == bool(compiler)
    assert ("training on a CPU is slower without it" in "".join(capsys.readouterr())) == bool(compiler)
    assert (source / "echoself_action/native/native.bin").is_file() == (not compiler)
    assert not list(source.rglob("*.part"))
