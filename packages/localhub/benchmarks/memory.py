"""Memory of the server at rest and at its peak while large files are uploaded and downloaded, in each way that it knows.

    python benchmarks/memory.py [--megabytes 300] [--only TEXT] [--json FILE]

Each case has a server of its own in a process of its own. At rest: VmRSS a second after the last request. Peak: the kernel's
VmHWM. git: the highest resident memory of the git processes that the server runs, all together, looked at every 5 ms. Regular
files are eight of 10 MB, the largest that git may hold; half of them are random, the others text. Linux only.
"""

import argparse
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

os.environ["HF_HUB_DISABLE_XET"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

from huggingface_hub import CommitOperationAdd, HfApi, constants
from localhub import Limits
from throughput import MEGABYTE, REPO, server

REGULAR_FILES = 8
REGULAR_SIZE = 10 * MEGABYTE
AT_ONCE = 4  # of each kind, in the last case


@dataclass
class Memory:
    """In MB."""

    start: float = 0
    rest: float = 0
    peak: float = 0
    git: float = 0


@dataclass(frozen=True)
class Hub:
    """A server with an empty repo, and a folder for the client's files."""

    url: str
    folder: Path

    @property
    def api(self) -> HfApi:
        return HfApi(self.url, token=False)

    def get(self, path: str, **headers: str) -> int:
        """Read an answer and forget it; its size. Raises OSError unless it is a success."""
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=300)
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            size = 0
            while block := answer.read(MEGABYTE):
                size += len(block)
            if answer.status == 302:
                return self.get(str(answer.getheader("Location")), **headers)
            if answer.status not in (200, 206):
                raise OSError(f"{path}: status {answer.status}")
            return size
        finally:
            connection.close()

    def git(self, *arguments: str) -> None:
        environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        environment |= {
            f"GIT_{role}_{what}": "me@localhub.invalid" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }
        subprocess.run(["git", *arguments], check=True, env=environment, capture_output=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=300, help="size of a large file (%(default)s)")
    parser.add_argument("--only", default="", metavar="TEXT", help="the cases with this in their names")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the temporary folder is deleted
    found: dict[str, Memory] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        os.environ["HF_XET_CACHE"] = str(folder / "xet-cache")
        source = folder / "large.safetensors"
        with source.open("wb") as file:
            for _ in range(arguments.megabytes):
                file.write(random.randbytes(MEGABYTE))
        print(f"| {arguments.megabytes} MB | start | at rest | peak | git |\n|---|---|---|---|---|")
        for number, (name, (threshold, case)) in enumerate(cases(source).items()):
            if arguments.only not in name:
                continue
            with measured(folder / str(number), threshold) as (hub, memory):
                case(hub)
            found[name] = memory
            print(f"| {name} | {memory.start:.0f} | {memory.rest:.0f} | {memory.peak:.0f} | {memory.git:.0f} |", flush=True)
    worst = Memory(*(max(getattr(memory, field) for memory in found.values()) for field in Memory.__dataclass_fields__))
    print(f"| highest | {worst.start:.0f} | {worst.rest:.0f} | {worst.peak:.0f} | {worst.git:.0f} |")
    if arguments.json:
        arguments.json.write_text(json.dumps({name: vars(memory) for name, memory in found.items()}, indent=2) + "\n")


def cases(source: Path) -> dict[str, tuple[int, Callable[[Hub], None]]]:
    """For each case the size from which uploads come in parts, and what the clients do."""
    whole = Limits().multipart_threshold

    def large(hub: Hub) -> None:
        upload(hub, source)
        download(hub, source)

    def large_by_xet(hub: Hub) -> None:
        constants.HF_HUB_DISABLE_XET = False
        try:
            large(hub)
        finally:
            constants.HF_HUB_DISABLE_XET = True

    return {
        "LFS, one part: upload, download, ranges": (whole, large),
        "LFS, parts of 64 MB: upload, download, ranges": (MEGABYTE, large),
        "Xet: upload, download, ranges": (whole, large_by_xet),
        "Regular files: commit": (whole, commit_regular),
        "Regular files: commit, downloads and ranges at once": (whole, lambda hub: (commit_regular(hub), get_regular(hub))[1]),
        "Regular files: git push": (whole, push_regular),
        "Regular files: git push, downloads and ranges at once": (whole, lambda hub: (push_regular(hub), get_regular(hub))[1]),
        "Regular files: commit and git push, git clone": (whole, clone_regular),
        "Regular files: pages, and the diff of a pull request": (whole, look_around),
        f"At once {AT_ONCE} LFS uploads and downloads, {AT_ONCE} commits, pushes and clones": (
            whole,
            lambda hub: everything(hub, source),
        ),
    }


def upload(hub: Hub, source: Path, path: str = "large.safetensors") -> None:
    hub.api.upload_file(repo_id=REPO, path_or_fileobj=source, path_in_repo=path)


def download(hub: Hub, source: Path, path: str = "large.safetensors") -> None:
    """Plain, as others do it, and with the client, which may use Xet."""
    size = source.stat().st_size
    if Path(hub.api.hf_hub_download(REPO, path, local_dir=hub.folder / "downloaded")).stat().st_size != size:
        sys.exit(f"{path}: the downloaded file has another size")
    if hub.get(f"/{REPO}/resolve/main/{path}") != size:
        sys.exit(f"{path}: the downloaded file has another size")
    hub.get(f"/{REPO}/resolve/main/{path}", Range=f"bytes={size // 3}-{size - 10}")


def regular_files(seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Below the size limit. One at a time, so that the client's memory is small too."""
    rng = random.Random(seed)
    for number in range(REGULAR_FILES):
        if number % 2:
            line = b"%d and then more of the same\n" % number
            yield f"{seed}/{number}.txt", (line * (REGULAR_SIZE // len(line) + 1))[:REGULAR_SIZE]
        else:
            yield f"{seed}/{number}.txt", rng.randbytes(REGULAR_SIZE // 2).hex().encode()


def commit_regular(hub: Hub, seed: int = 0, **options: bool) -> None:
    operations = [CommitOperationAdd(path, content) for path, content in regular_files(seed)]
    hub.api.create_commit(REPO, operations, commit_message="Regular files", **options)


def get_regular(hub: Hub, seed: int = 0) -> None:
    paths = [f"/{REPO}/resolve/main/{seed}/{number}.txt" for number in range(REGULAR_FILES)]
    with ThreadPoolExecutor(REGULAR_FILES) as pool:
        if set(pool.map(hub.get, paths)) != {REGULAR_SIZE}:
            sys.exit("a downloaded file has another size")
        middle = f"bytes={REGULAR_SIZE // 3}-{REGULAR_SIZE - 10}"
        list(pool.map(lambda path: hub.get(path, Range=middle), paths))


def push_regular(hub: Hub, seed: int = 0, branch: str = "main") -> None:
    folder = hub.folder / f"pushed-{seed}"
    hub.git("clone", "-q", f"{hub.url}/{REPO}", str(folder))
    for path, content in regular_files(seed):
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(content)
    hub.git("-C", str(folder), "add", "-A")
    hub.git("-C", str(folder), "commit", "-q", "-m", "Regular files")
    hub.git("-C", str(folder), "push", "-q", "origin", f"HEAD:refs/heads/{branch}")


def clone_regular(hub: Hub) -> None:
    commit_regular(hub)
    push_regular(hub, 1)
    hub.git("clone", "-q", f"{hub.url}/{REPO}", str(hub.folder / "clone"))


def look_around(hub: Hub) -> None:
    hub.api.create_branch(REPO, branch="before")
    commit_regular(hub, 1)
    commit_regular(hub, 2, create_pr=True)
    hub.api.get_discussion_details(REPO, 1)
    sha = hub.api.repo_info(REPO).sha
    for page in (
        "",
        "/tree/main/1",
        "/blob/main/1/0.txt",
        "/blob/main/1/1.txt",
        "/commits/main",
        f"/commit/{sha}",
        "/discussions/1",
    ):
        hub.get(f"/{REPO}{quote(page)}")


def everything(hub: Hub, source: Path) -> None:
    upload(hub, source)
    with ThreadPoolExecutor(5 * AT_ONCE) as pool:
        tasks = []
        for number in range(AT_ONCE):
            # a path of its own has content of its own: the client does not send what is there
            own = hub.folder / f"{number}.safetensors"
            own.write_bytes(b"%d" % number + source.read_bytes()[1:])
            hub.api.create_branch(REPO, branch=f"pushed-{number}")
            tasks += [
                pool.submit(upload, hub, own, own.name),
                pool.submit(download, hub, source),
                pool.submit(commit_regular, hub, number),
                pool.submit(push_regular, hub, 100 + number, f"new-{number}"),
                pool.submit(hub.git, "clone", "-q", f"{hub.url}/{REPO}", str(hub.folder / f"clone-{number}")),
            ]
        for task in tasks:
            task.result()
    get_regular(hub)


@contextmanager
def measured(folder: Path, threshold: int) -> Iterator[tuple[Hub, Memory]]:
    (folder / "client").mkdir(parents=True)
    memory = Memory()
    with server(folder / "hub", threshold) as (process, url):
        hub = Hub(url, folder / "client")
        hub.api.create_repo(REPO)
        memory.start = resident(process.pid)
        done = threading.Event()
        watcher = threading.Thread(target=watch_git, args=(process.pid, done, memory))
        watcher.start()
        try:
            yield hub, memory
        finally:
            done.set()
            watcher.join()
        time.sleep(1)
        memory.rest, memory.peak = resident(process.pid), resident(process.pid, "VmHWM")


def watch_git(server_pid: int, done: threading.Event, memory: Memory) -> None:
    while not done.wait(0.005):
        memory.git = max(memory.git, sum(resident(pid) for pid in descendants(server_pid)))


def descendants(pid: int) -> Iterator[int]:
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield int(child)
                yield from descendants(int(child))
    except (FileNotFoundError, ProcessLookupError):
        return  # it has ended


def resident(pid: int, field: str = "VmRSS") -> float:
    """In MB; 0 for a process that has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith(f"{field}:")), 0)


if __name__ == "__main__":
    main()
