"""Memory errors, undefined behaviour and races in the kernels, found by the compiler's sanitizers; and another compiler."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import hatch_build
from echoself_action import native

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
def test_no_kernel_has_a_memory_error_or_undefined_behaviour(native_code: None, tmp_path: Path) -> None:
    gcc, library = compiler_with("libasan.so")
    options = ["-fsanitize=address,undefined", "-fno-sanitize-recover", "-g", "-O1"]
    hatch_build.compile_native(copied_package(tmp_path), gcc, extra=options)
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
    done = subprocess.run(["setarch", "-R", program], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
