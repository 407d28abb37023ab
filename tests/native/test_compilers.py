"""Memory errors, undefined behaviour and races in the kernels, found by GCC's sanitizers; and Clang's results."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import hatch_build
from echoself_action import native
from echoself_action.model.gpt2 import GPT2Config
from echoself_action.native import Memory, optimizer_steps
from tests.native.gpt2_reference import a_batch, a_model, by_native, error
from tests.native.sanitize import LOGITS_AT_ONCE

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "echoself_action/native/csrc"


def compiler_with(library: str) -> tuple[str, str]:
    """GCC, and its runtime library of a sanitizer. In CI there must be one."""
    gcc = shutil.which("gcc") or ""
    path = subprocess.run([gcc, f"-print-file-name={library}"], capture_output=True, text=True).stdout.strip() if gcc else ""
    if not Path(path).is_absolute():
        assert os.environ.get("CI") != "true", f"GCC and {library} must be installed under CI=true"
        pytest.skip(f"needs GCC and {library}")
    return gcc, path


def copied_package(folder: Path) -> Path:
    """A copy of the package without its library, whose folder `native` is returned."""
    ignored = shutil.ignore_patterns("__pycache__", hatch_build.LIBRARY)
    shutil.copytree(ROOT / "echoself_action", folder / "echoself_action", ignore=ignored)
    return folder / "echoself_action/native"


@pytest.mark.timeout(900)
def test_no_kernel_has_a_memory_error_or_undefined_behaviour(
    native_code: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gcc, library = compiler_with("libasan.so")
    sets = hatch_build.INSTRUCTION_SETS[platform.machine()]
    usable = {isa: flags for isa, flags in sets.items() if isa in native._usable()}
    monkeypatch.setitem(hatch_build.INSTRUCTION_SETS, platform.machine(), usable)  # no time for what can't run here
    options = ["-fsanitize=address,undefined", "-fno-sanitize-recover", "-g1", "-O1"]  # -g1: lines for the traces
    hatch_build.compile_native(copied_package(tmp_path), gcc, extra=[*options, f"-DLOGITS_AT_ONCE={LOGITS_AT_ONCE}"])
    environment = os.environ | {
        "PYTHONPATH": f"{tmp_path}:{ROOT}",
        "LD_PRELOAD": library,
        "ASAN_OPTIONS": "detect_leaks=0",  # Python's
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    done = subprocess.run(
        [sys.executable, ROOT / "tests/native/sanitize.py"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == list(native._usable())


@pytest.mark.parametrize("options", [["-fsanitize=thread", "-g", "-O1"], ["-O2"]], ids=["ThreadSanitizer", "forked"])
def test_the_pool_runs_each_iteration_once_without_races(tmp_path: Path, options: list[str]) -> None:
    """Loops of two threads at once, and of a forked process; without ThreadSanitizer, which that doesn't support."""
    gcc, _ = compiler_with("libtsan.so")
    sources = [ROOT / "tests/native/pool_races.c", SOURCES / "pool.c"]
    program = tmp_path / "pool_races"
    subprocess.run([gcc, "-std=gnu11", "-pthread", f"-I{SOURCES}", *options, *sources, "-o", program], check=True)
    fixed_addresses = ["setarch", "-R"]  # which ThreadSanitizer needs on some kernels; not allowed in some containers
    if not shutil.which("setarch") or subprocess.run([*fixed_addresses, "true"], capture_output=True).returncode:
        fixed_addresses = []
    done = subprocess.run([*fixed_addresses, program], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def results(dtype: torch.dtype) -> dict[str, Tensor]:
    config = GPT2Config(vocab_size=257, block_size=37, n_layer=2, n_head=5, n_embd=35, dropout=0.2)
    update, momentum = torch.zeros(35, 105), torch.zeros(35, 105)
    gradient = torch.randn(35, 105, generator=torch.Generator().manual_seed(1))
    coefficients = [(3.4445, -4.775, 2.0315)] * 3
    optimizer_steps.muon([update], [gradient], [momentum], 3, coefficients, 0.9, 1.0, 1.0, 1.0, dtype, Memory())
    found = by_native(a_model(config), *a_batch(config), dtype, [1, 2, 3]).tensors()
    return found | {"update": update, "norm": torch.tensor([optimizer_steps.norm([gradient])])}


@pytest.mark.skipif(not shutil.which("clang"), reason="needs Clang")
def test_clangs_kernels_compute_what_gccs_do(
    native_code: None,
    monkeypatch: pytest.MonkeyPatch,
    compiled: Callable[[str, str], Path],
    load_from: Callable[[Path], None],
) -> None:
    def of_all_sets() -> dict[str, dict[str, Tensor]]:
        found = {}
        for isa in native._usable():
            monkeypatch.setenv("ECHOSELF_ISA", isa)
            found[isa] = results(native.dtype_of(isa))
        return found

    gccs, clang = of_all_sets(), compiled(platform.machine(), "clang")
    load_from(clang)
    clangs = of_all_sets()
    assert clangs.keys() == gccs.keys()
    for isa, tensors in gccs.items():
        allowed = 1e-5 if native.dtype_of(isa) is torch.float32 else 0.02
        assert {n: e for n, one in tensors.items() if not (e := error(clangs[isa][n], one.double())) < allowed} == {}
