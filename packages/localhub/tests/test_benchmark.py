"""The benchmark runs and writes its figures."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parent.parent / "benchmarks/throughput.py"


def test_benchmark_writes_its_figures(tmp_path):
    command = [sys.executable, str(BENCHMARK), "--megabytes", "2", "--json", str(tmp_path / "figures.json")]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["commits under kill -9"]["of them missing"] == [0]
    assert len(figures["commit of a small file, ms"]["all"]) == 50
    assert {"basic, up", "basic, down", "multipart, up", "multipart, down"} <= figures["rate, MB/s"].keys()
