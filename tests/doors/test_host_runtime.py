"""The venv of `runtime: host`: installed once, by several jobs at once, replaced if it is damaged, and removed if it is unused.

The venvs, pip and the processes are real. The action is a stand-in without dependencies, so that nothing is downloaded.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import host_runtime

from .conftest import PATH, ROOT

# a build backend of a single file, because others would have to be downloaded
BACKEND = """import zipfile
def build_wheel(folder, settings=None, metadata=None):
    name, info = "NAME-1-py3-none-any.whl", "NAME-1.dist-info/"
    with zipfile.ZipFile(f"{folder}/{name}", "w") as wheel:
        wheel.writestr("NAME.py", "installed = True")
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: NAME\\nVersion: 1\\nProvides-Extra: sign\\n")
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "RECORD", "")
    return name
"""
PROJECT = (
    '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n[project]\nname = "NAME"\nversion = "1"\n'
)


@pytest.fixture
def action(tmp_path: Path) -> Path:
    folder = tmp_path / "action"
    for name, place in (("ours", folder), ("localhub", folder / "packages/localhub")):
        place.mkdir(parents=True)
        (place / "backend.py").write_text(BACKEND.replace("NAME", name))
        (place / "pyproject.toml").write_text(PROJECT.replace("NAME", name))
    (folder / "install.sh").write_text("#!/bin/sh\n[ $1 != key ] || echo 1-1\n")
    (folder / "install.sh").chmod(0o755)
    (folder / "entrypoint.py").write_text(
        "import localhub, os, ours, sys\nprint('ran in', sys.prefix)\n"
        "assert os.environ['ECHOSELF_PACKAGES'] + '/' in sys.prefix\nsys.exit(7)\n"
    )
    shutil.copy(ROOT / "host_runtime.py", folder)
    return folder


def start(action: Path, name: str = "one") -> "subprocess.Popen[str]":
    place = action.parent
    (place / "temp").mkdir(exist_ok=True)
    variables = {"PATH": PATH, "HOME": str(place), "PIP_NO_INDEX": "1", "RUNNER_TOOL_CACHE": str(place / "tools")}
    variables |= {"RUNNER_TEMP": str(place / "temp"), "GITHUB_STEP_SUMMARY": str(place / "summary")}
    return subprocess.Popen(
        [sys.executable, action / "host_runtime.py", name],
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    log = process.communicate(timeout=100)[0]
    return process.returncode, log


def test_jobs_that_install_at_once_replace_a_damaged_venv_by_one_that_later_jobs_reuse(action: Path) -> None:
    venvs = action.parent / "tools" / "echoself-action"
    damaged = f"{host_runtime.key().rsplit('-', 2)[0]}-1-1"
    for name, days in ((damaged, 1), ("cpu-3.11-0-0", 20), ("cpu-3.11-2-2", 3), ("unfinished-x", 2)):
        (venvs / name).mkdir(parents=True)
        (venvs / name / "used").touch()
        os.utime(venvs / name / "used", (before := time.time() - days * 86_400, before))

    both = [ended(process) for process in [start(action, "one"), start(action, "two")]]
    assert [code for code, _ in both] == [7, 7], both
    assert {path.name for path in venvs.iterdir()} == {damaged, "cpu-3.11-2-2"}
    venv = venvs / damaged
    assert all(f"ran in {venv}" in log and "s  installing PyTorch" in log for _, log in both)
    logs = both[0][1] + both[1][1]
    assert f"the venv {venv} is not usable and is replaced: its Python can't be started" in logs
    assert "removed the venv cpu-3.11-0-0, unused for 20 days" in logs

    code, log = ended(start(action))
    assert (code, log.splitlines()) == (7, [f"reusing the venv {venv}", f"ran in {venv}"])
    (installed,) = venv.glob("lib/*/site-packages/ours.py")
    installed.unlink()
    assert host_runtime.defect(venv) == "files of it are missing or were changed"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_cancel_ends_the_installation_and_leaves_nothing(action: Path, number: signal.Signals) -> None:
    process = start(action)
    assert process.stdout
    while "creating the venv" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(number)
    code, log = ended(process)
    assert code == 130
    assert "cancelled while the venv was installed" in log
    assert not list((action.parent / "tools" / "echoself-action").iterdir())


def test_a_failed_installation_is_reported_with_the_end_of_pips_log(action: Path) -> None:
    (action / "pyproject.toml").write_text(
        PROJECT.replace("NAME", "ours").replace("requires = []", 'requires = ["nowhere-to-find"]')
    )
    code, log = ended(start(action))
    assert code == 2
    assert "No matching distribution found for nowhere-to-find" in log
    assert "::error title=echoself-action::runtime: installing the other packages failed. Nothing was done." in log
    assert "installing the other packages failed" in (action.parent / "summary").read_text()
    assert not list((action.parent / "tools" / "echoself-action").iterdir())


def test_a_tool_cache_that_can_not_be_written_is_replaced_by_the_jobs_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RUNNER_TEMP", str(tmp_path / "temp"))
    monkeypatch.setenv("RUNNER_TOOL_CACHE", str(tmp_path / "file"))
    assert host_runtime.venvs() == tmp_path / "temp" / "echoself-action"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("  Downloading torch-2.13.0-cp312-cp312-manylinux_2_28_x86_64.whl (532.9 MB)", "downloading torch 2.13.0 (532.9 MB)"),
        ("Downloading https://host/whl/cpu/torch-2.13.0%2Bcpu-cp311.whl (1.2 GB)", "downloading torch 2.13.0 (1.2 GB)"),
        ("  Downloading tqdm-4.70.1-py3-none-any.whl (78 kB)", None),
        ("  Downloading regex-2026.1-cp311.whl (0.8 MB)", None),
        ("Installing collected packages: a, b, c", "unpacking 3 packages"),
        ("  Building wheel for echoself-action (pyproject.toml): started", "building echoself-action"),
        ("Collecting numpy==2.4.6", None),
    ],
)
def test_progress_is_one_line_for_what_takes_long(line: str, shown: str | None) -> None:
    assert host_runtime.progress(line) == shown
