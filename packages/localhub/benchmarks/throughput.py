"""Upload and download rates of a 300 MB file, the server's peak memory, and the time of a commit.

    python benchmarks/throughput.py [--megabytes 300] [--json FILE]

The server runs in its own process; its peak memory is the kernel's VmHWM. The rates include the client's own work: it
hashes a file before it uploads it.
"""

import argparse
import base64
import http.client
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ["HF_HUB_DISABLE_XET"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

from huggingface_hub import HfApi, constants
from localhub import Limits

MEGABYTE = 1024 * 1024
REPO = "me/model"
# the command line has no options for the limits: only tests and measurements change them
# the server ends when its standard input is closed, which also happens if this process is killed
SERVER = """
import sys
from pathlib import Path
from localhub import Limits, LocalHub
with LocalHub(Path(sys.argv[1]), limits=Limits(multipart_threshold=int(sys.argv[2]))) as hub:
    print(hub.url, flush=True)
    sys.stdin.read()
"""


Figures = dict[str, dict[str, list[float]]]  # quantity with its unit -> case -> values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=300, help="size of the large file (%(default)s)")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the temporary folder is deleted
    size = arguments.megabytes * MEGABYTE
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        source = folder / "model.safetensors"
        with source.open("wb") as file:
            for _ in range(size // MEGABYTE):
                file.write(random.randbytes(MEGABYTE))
        measure_transfer(folder, source, "basic", Limits().multipart_threshold, figures)
        measure_transfer(folder, source, "multipart", MEGABYTE, figures)
        os.environ["HF_XET_CACHE"] = str(folder / "xet-cache")
        constants.HF_HUB_DISABLE_XET = False
        measure_transfer(folder, source, "xet", Limits().multipart_threshold, figures)
        constants.HF_HUB_DISABLE_XET = True
        measure_commits(folder, figures)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


def add(figures: Figures, quantity: str, case: str, *values: float) -> None:
    figures.setdefault(quantity, {}).setdefault(case, []).extend(values)


def measure_transfer(folder: Path, source: Path, name: str, threshold: int, figures: Figures) -> None:
    size = source.stat().st_size
    with server(folder / name, threshold) as (process, url):
        api = HfApi(url, token=False)
        api.create_repo(REPO)
        start = time.perf_counter()
        api.upload_file(repo_id=REPO, path_or_fileobj=source, path_in_repo=source.name)
        up = time.perf_counter() - start
        start = time.perf_counter()
        downloaded = api.hf_hub_download(REPO, source.name, local_dir=folder / f"{name}-got")
        down = time.perf_counter() - start
        if subprocess.run(["cmp", str(source), downloaded]).returncode:
            sys.exit(f"{name}: the downloaded file differs from the uploaded one")
        megabytes, peak = size / MEGABYTE, peak_memory(process)
        rates = f"up {megabytes / up:.0f} MB/s, down {megabytes / down:.0f} MB/s"
        print(f"{name}, {megabytes:.0f} MB: {rates}, server peak {peak} MB")
        add(figures, "rate, MB/s", f"{name}, up", megabytes / up)
        add(figures, "rate, MB/s", f"{name}, down", megabytes / down)
        add(figures, "server peak memory, MB", name, peak)


def measure_commits(folder: Path, figures: Figures) -> None:
    with server(folder / "commits", MEGABYTE) as (_, url):
        HfApi(url, token=False).create_repo(REPO)
        latencies = []
        for number in range(50):
            start = time.perf_counter()
            commit_once(url, number)
            latencies.append(time.perf_counter() - start)
    print(f"one commit of a small file: median {statistics.median(latencies) * 1000:.1f} ms")
    add(figures, "commit of a small file, ms", "all", *(1000 * seconds for seconds in latencies))


def commit_once(url: str, number: int) -> str:
    """One commit of a small file in one request; its id."""
    content = base64.b64encode(b"%d" % number * 1000).decode()
    lines = [
        {"key": "header", "value": {"summary": f"Step {number}"}},
        {"key": "file", "value": {"path": "number.txt", "content": content, "encoding": "base64"}},
    ]
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    try:
        body = "".join(json.dumps(line) + "\n" for line in lines)
        connection.request("POST", f"/api/models/{REPO}/commit/main", body)
        answer = connection.getresponse()
        return str(json.load(answer)["commitOid"])
    finally:
        connection.close()


@contextmanager
def server(folder: Path, threshold: int) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-c", SERVER, str(folder), str(threshold)]
    # a signal while the process starts would leave it behind, and it would create the deleted folder again
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def peak_memory(process: "subprocess.Popen[str]") -> int:
    """In MB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) // 1024


if __name__ == "__main__":
    main()
