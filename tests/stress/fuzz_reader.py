"""Mutated checkpoints for the reader of foreign checkpoints: each must be read, or refused with a clear message.

    python tests/stress/fuzz_reader.py [--minutes 10] [--seed 1] [--keep FOLDER]

Each file is a real checkpoint or a hostile pickle with a structure-aware mutation (tests/formats/mutations.py). It is read in a
process of its own with MEMORY bytes of address space, ALLOWED_S seconds of processor time, and an audit hook: executing,
compiling, importing, starting a process, opening a socket or opening a file for writing are violations. Exit code 1 if a file
was neither read nor refused; such files are kept in FOLDER. A seed and a number give the same file again.
"""

import codecs
import collections
import contextlib
import importlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import torch
from common import results
from common.results import Figures

from echoself_action.errors import CheckpointError
from echoself_action.formats.import_checkpoint import read_checkpoint_file
from tests.formats.mutations import MUTATIONS, odd_seeds, seeds

MEMORY = 512 << 20
ALLOWED_S = 10.0
_LONGEST_MESSAGE = 2000
# of https://docs.python.org/3/library/audit_events.html; "open" is looked at more closely
FORBIDDEN = (
    *("exec", "compile", "import", "code.__new__", "function.__new__", "marshal.", "pickle.", "cpython.run_"),
    *("os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.startfile", "subprocess.", "pty.", "shutil."),
    *("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.chmod", "os.chown", "os.link", "os.symlink", "os.truncate"),
    *("os.putenv", "os.unsetenv", "os.kill", "os.listdir", "socket.", "urllib.", "http.", "ftplib.", "smtplib.", "webbrowser."),
    *("ctypes.dlopen", "ctypes.dlsym", "ctypes.call_function", "ctypes.string_at", "builtins.input", "sys.settrace"),
)


def main() -> int:
    parser = results.parser(__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"))
    given = parser.parse_args()
    figures = Figures(given)
    torch.set_num_threads(1)
    counts: collections.Counter[str] = collections.Counter()
    ways: dict[str, collections.Counter[str]] = {name: collections.Counter() for name in MUTATIONS}
    slowest = most = 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ckpt.pt"
        starts = seeds(Path(folder)) + odd_seeds(Path(folder))
        warm(starts, path)
        path.write_bytes(starts[0])
        _, _, base = read_apart(path)  # what a child has of its parent
        end, number = time.monotonic() + 60 * given.minutes, 0
        while time.monotonic() < end:
            chance = random.Random(f"{given.seed} {number}")  # any file can be made again without those before it
            way = chance.choice(list(MUTATIONS))
            path.write_bytes(MUTATIONS[way](chance, starts))
            outcome, seconds, memory = read_apart(path)
            kind = outcome.partition(":")[0]
            counts[kind] += 1
            ways[way][kind] += 1
            slowest, most = max(slowest, seconds), max(most, memory - base)
            if kind not in ("read", "refused"):
                given.keep.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, given.keep / f"{given.seed}-{number}.pt")
                print(f"{given.seed}-{number} ({way}): {outcome}", flush=True)
            number += 1
    print(f"{number:,} files in {given.minutes:g} minutes, seed {given.seed}: {dict(counts)}")
    for way, found in ways.items():
        print(f"  {way:36} {dict(found)}")
        for kind, count in found.items():
            figures.add(f"files {kind}, by what was changed", way, count)
    print(f"slowest {slowest:.2f} s; at most {most / 1e6:.0f} MB above the process that reads a good file")
    figures.add("slowest, s", "all files", slowest)
    figures.add("most memory above a good file's, MB", "all files", most / 1e6)
    figures.write()
    return int(any(kind not in ("read", "refused") for kind in counts))


def warm(starts: list[bytes], path: Path) -> None:
    """Read and refuse a few, so that every module that reading needs is there before importing one is a violation."""
    for encoding in ("cp437", "latin-1", "raw_unicode_escape"):  # of names in a zip, and of text and bytes in a pickle
        codecs.lookup(encoding)
    for part in ("torch.nested._internal.ops", "torch._subclasses.schema_check_mode"):  # PyTorch loads them to compare tensors
        importlib.import_module(part)
    for content in (*starts, starts[0][:-30], b""):
        path.write_bytes(content)
        with contextlib.suppress(CheckpointError):
            read_checkpoint_file(path, lambda _: None)


def read_apart(path: Path) -> tuple[str, float, float]:
    """What came of it, and seconds, and the peak resident memory in bytes, of a process that reads `path`."""
    reading, writing = os.pipe()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        outcome = b"failed: the child ended early"
        try:
            outcome = json.dumps(_read(path)).encode()
        finally:
            os.write(writing, outcome)
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    _, status, used = os.wait4(child, 0)
    seconds, memory = time.monotonic() - began, used.ru_maxrss * 1024.0
    if os.WIFSIGNALED(status):
        ended = os.WTERMSIG(status)
        return (
            (f"hang: {seconds:.1f} s" if ended in (signal.SIGALRM, signal.SIGPROF) else f"crash: signal {ended}"),
            seconds,
            memory,
        )
    try:
        return json.loads(answer), seconds, memory
    except ValueError:
        return f"crash: {answer!r}", seconds, memory


def _read(path: Path) -> str:
    violations: list[str] = []

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith(FORBIDDEN) or (event == "open" and _writes(arguments)):
            violations.append(f"{event} {str(arguments)[:200]}")

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, ALLOWED_S)  # on a busy machine, little of the time is the process's
    signal.setitimer(signal.ITIMER_REAL, 6 * ALLOWED_S)
    sys.addaudithook(watch)
    try:
        read_checkpoint_file(path, lambda _: None)
        outcome = "read"
    except CheckpointError as error:
        outcome = f"refused: {error.message}"
        if "MemoryError" in outcome or "allocate" in outcome:
            outcome = f"memory: {error.message}"
        elif len(error.message) > _LONGEST_MESSAGE or not error.message.isprintable():
            outcome = f"unclear: {error.message[:500]!r}"
    except BaseException as error:
        outcome = f"failed: {type(error).__name__}: {str(error)[:300]}"
    return f"violation: {violations[:3]}" if violations else outcome


def _writes(arguments: tuple[Any, ...]) -> bool:
    _, mode, flags = arguments
    named = isinstance(mode, str) and set(mode) & set("wax+")
    return bool(named) or bool(isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


if __name__ == "__main__":
    sys.exit(main())
