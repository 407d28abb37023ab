"""Children of a benchmark end with it, however it ends: by SIGTERM, by SIGKILL, or with an error."""

import os
import subprocess
import sys
import uuid

_MARK = "ECHOSELF_BENCHMARK"
# Waits until the parent has ended, which closes the pipe; then kills all processes with the mark in their environment, until
# none was found for a second: during an execve, a process has no environment for a moment.
_WATCHER = """
import os, signal, sys, time
mark = sys.argv[1].encode()
sys.stdin.buffer.read()
unmarked_sweeps = 0
while unmarked_sweeps < 50:
    found = False
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                variables = file.read().split(b"\\0")
            if mark in variables:
                os.kill(int(name), signal.SIGKILL)
                found = True
        except OSError:
            continue
    unmarked_sweeps = 0 if found else unmarked_sweeps + 1
    time.sleep(0.02)
"""


def end_children_with_this_process() -> None:
    """Kill all processes that descend from this one when it ends. To be called before the first is started.

    They are found by a variable that they inherit: process groups would miss a child with a session of its own, and
    PR_SET_PDEATHSIG grandchildren; a stopped child (SIGSTOP) can't watch for its parent's end.
    A fork without an exec is not found.
    """
    if sys.platform != "linux":  # reads /proc
        return
    value = uuid.uuid4().hex
    command = [sys.executable, "-S", "-c", _WATCHER, f"{_MARK}={value}"]
    environment = {name: it for name, it in os.environ.items() if name != _MARK}
    watcher = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,  # Ctrl-C is for the benchmark
    )
    watcher.returncode = 0  # nobody waits for it: it ends after this process
    _open.append(watcher)
    os.environ[_MARK] = value


_open: list["subprocess.Popen[bytes]"] = []  # keeps the pipe open until this process ends
