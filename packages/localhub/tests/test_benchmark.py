"""The benchmark writes its figures, and its server ends with it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parent.parent / "benchmarks/throughput.py"


def test_benchmark_writes_its_figures(tmp_path):
    command = [sys.executable, str(BENCHMARK), "--megabytes", "2", "--json", str(tmp_path / "figures.json")]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert len(figures["commit of a small file, ms"]["all"]) == 50
    assert {"basic, up", "basic, down", "multipart, up", "multipart, down", "xet, up", "xet, down"} <= figures[
        "rate, MB/s"
    ].keys()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
def test_memory_of_a_case(tmp_path):
    """Of one, because the others have files of 10 MB."""
    command = [sys.executable, str(BENCHMARK.with_name("memory.py")), "--megabytes", "2", "--only", "Xet"]
    command += ["--json", str(tmp_path / "figures.json")]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert list(figures) == ["Xet: upload, download, ranges"]
    assert 10 < figures["Xet: upload, download, ranges"]["peak"] < 110


def command_lines(folder: Path) -> list[bytes]:
    """The command lines of the processes that have `folder` in them."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in line:
            found.append(line)
    return found


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_server_ends_if_the_benchmark_is_killed(tmp_path, number):
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    command = [sys.executable, str(BENCHMARK), "--megabytes", "50"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not command_lines(tmp_path):  # the server's folder is one of its arguments
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(number)
        process.wait(30)
    deadline = time.monotonic() + 10
    while command_lines(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert command_lines(tmp_path) == []
    if number == signal.SIGTERM:
        assert list(tmp_path.iterdir()) == []
