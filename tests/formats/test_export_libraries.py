"""The libraries of exported formats: installed in a job of the action that asks for them, and tried before any work.

pip, its wheels and the processes are real. The packages are stand-ins, so that nothing is downloaded; doors/test_image.py
installs the real ones.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

from echoself_action.errors import InputError
from echoself_action.formats.runtimes.export_libraries import FOLDER_VARIABLE, require_usable, requirements
from echoself_action.formats.runtimes.runtime_formats import GGUF

ROOT = Path(__file__).parents[2]
PIP = Path(sys.executable).with_name("pip")
PROGRAM = """import sys
from echoself_action.errors import InputError
from echoself_action.formats.runtimes.export_libraries import require_libraries
try:
    require_libraries(sys.argv[1:], print)
except InputError as error:
    sys.exit(str(error))
if "gguf" in sys.argv:
    import subprocess
    subprocess.run([sys.executable, "-c", "import gguf; print('a child has', gguf.__file__)"], check=True)
"""


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A command that runs PROGRAM in a venv that lacks pip and the packages of the extra, as the image does."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    left_out = {name.partition("==")[0].replace("-", "_") for name in requirements()} | {"pip"}
    (folder / "site").mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if entry.name.partition("-")[0] not in left_out and entry.suffix != ".pth":
            (folder / "site" / entry.name).symlink_to(entry)
    (site,) = folder.glob("venv/lib/python3*/site-packages")
    (site / "ours.pth").write_text(f"{folder / 'site'}\n{ROOT}\n")
    return [str(folder / "venv/bin/python"), "-c", PROGRAM]


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A folder with a wheel for each package of the extra. It holds one module."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name, _, version in (one.replace("-", "_").partition("==") for one in requirements()):
        info = f"{name}-{version}.dist-info"
        with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{name}/__init__.py", "def get_system_info():\n    return ''\n")
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
    return folder


def run(python: list[str], tmp_path: Path, *formats: str, **environment: str) -> tuple[int, str]:
    """The exit code and the output of PROGRAM, with a pip in PATH that records its environment."""
    programs = tmp_path / "programs"
    programs.mkdir(exist_ok=True)
    (programs / "pip").write_text(f'#!/bin/sh\nenv >>{tmp_path}/environment\nexec {PIP} "$@"\n')
    (programs / "pip").chmod(0o755)
    variables = {"PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(tmp_path), "PIP_NO_INDEX": "1", "HF_TOKEN": "secret"}
    done = subprocess.run([*python, *formats], env=variables | environment, capture_output=True, text=True, timeout=100)
    return done.returncode, done.stdout + done.stderr


def test_the_packages_are_those_of_the_extra() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert requirements() == sorted(extras["export"])


def test_outside_of_the_action_nothing_is_installed_and_the_error_names_the_command(
    bare_python: list[str], tmp_path: Path
) -> None:
    code, text = run(bare_python, tmp_path, "nanogpt", "gguf")
    assert code == 1
    assert text.startswith("formats: gguf needs gguf and xllamacpp, which are not installed. Nothing was done.\n")
    assert "[export]" in text
    assert not (tmp_path / "environment").exists()


def test_formats_without_libraries_install_nothing(bare_python: list[str], tmp_path: Path) -> None:
    assert run(bare_python, tmp_path, "nanogpt", **{FOLDER_VARIABLE: str(tmp_path)}) == (0, "")
    assert not (tmp_path / "environment").exists()


def test_a_job_of_the_action_installs_them_once_and_gives_pip_no_token(
    bare_python: list[str], wheels: Path, tmp_path: Path
) -> None:
    packages = tmp_path / "packages"
    packages.mkdir()
    job = {FOLDER_VARIABLE: str(packages), "PIP_FIND_LINKS": str(wheels)}
    code, text = run(bare_python, tmp_path, "gguf", "onnx", **job)
    assert code == 0, text
    (folder,) = packages.iterdir()
    assert f"formats: gguf, onnx: installing {', '.join(requirements())}\n" in text
    assert f"a child has {folder}/gguf/__init__.py" in text
    environment = (tmp_path / "environment").read_text()
    assert "PIP_FIND_LINKS" in environment
    assert "secret" not in environment

    code, text = run(bare_python, tmp_path, "onnx", **job)
    assert (code, text.splitlines()[0]) == (0, f"reusing the libraries of formats: {folder}")

    shutil.rmtree(folder / "onnx")
    code, text = run(bare_python, tmp_path, "onnx", **job)
    assert code == 0, text
    assert "formats: onnx: installing" in text
    assert (folder / "onnx").is_dir()
    assert list(packages.iterdir()) == [folder]


def test_without_an_index_the_error_says_so_and_nothing_is_left(bare_python: list[str], tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    packages.mkdir()
    code, text = run(bare_python, tmp_path, "onnx", **{FOLDER_VARIABLE: str(packages)})
    assert code == 1
    message = text[text.index("formats: onnx needs packages") :]
    assert message.startswith("formats: onnx needs packages that can't be installed here (No matching distribution found for ")
    assert "Nothing was done.\n  The job needs access to https://pypi.org, or to an index in PIP_INDEX_URL" in message
    assert not list(packages.iterdir())


@pytest.mark.parametrize(("cpu", "works"), [("Nehalem", False), ("Haswell", True)])
def test_a_cpu_without_avx2_is_named_before_it_ends_the_job(cpu: str, works: bool) -> None:
    emulator = shutil.which("qemu-x86_64-static")
    if not emulator or os.uname().machine != "x86_64":
        pytest.skip("needs qemu-user-static, on x86-64")
    python = [emulator, "-cpu", cpu, sys.executable]
    if works:
        require_usable(GGUF, python)
        return
    with pytest.raises(InputError, match="gguf and xllamacpp, compiled for a newer CPU than this one: on x86-64 one with AVX2"):
        require_usable(GGUF, python)


def test_a_library_that_can_not_be_loaded_is_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "gguf.py").write_text("raise ImportError('libgomp.so.1: cannot open shared object file')")
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); exec(sys.argv[2])"
    expected = (
        r"which can't be loaded here \(ImportError: libgomp\.so\.1: cannot open shared object file\)\. Nothing was done\."
    )
    with pytest.raises(InputError, match=expected):
        require_usable(GGUF, [sys.executable, "-c", program])
