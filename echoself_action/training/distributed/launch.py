"""Launch the processes that train one model on this machine, and supervise them until they exit.

Training on several machines uses torchrun instead. Processes rendezvous in the same way (process_group.py).
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from types import FrameType

import torch.distributed as dist

from ...errors import LostProcessError

LOST = 113  # the exit code of a process that ended because it lost another one
_GRACE = 10.0  # seconds for the remaining processes to exit: enough to finish writing a checkpoint


def launch(processes: int, work: Callable[..., int], *arguments: object) -> int:
    """Run `work(*arguments)` in `processes` processes of one group; returns the exit code of the main process.

    SIGINT and SIGTERM are forwarded to the main process. If a process dies, the others are killed within seconds. Raises
    LostProcessError then, or KeyboardInterrupt if a signal was forwarded.
    """
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
    context = multiprocessing.get_context("spawn")
    members = [
        context.Process(target=_member, args=(rank, processes, store.port, work, arguments)) for rank in range(processes)
    ]
    main = members[0]
    try:
        with _forwarding_signals_to(main) as forwarded:
            for member in members:
                member.start()
            lost = _watch(members)
    finally:
        for member in members:
            if member.pid:
                member.kill()
                member.join()
    if main.exitcode is not None and main.exitcode >= 0 and main.exitcode != LOST:
        return main.exitcode  # it exited by itself and has reported any error
    if forwarded:
        raise KeyboardInterrupt
    assert lost
    raise LostProcessError(
        f"Process {members.index(lost)} of {processes} {_end_of(lost)}. Training stopped; its checkpoints are kept.",
        "Its own messages are above. The system kills processes that use too much memory. Run again to "
        "resume from the newest checkpoint.",
    )


def _watch(members: Sequence[SpawnProcess]) -> SpawnProcess | None:
    """Wait until all processes exited, or for a grace period after one failed or the main process exited.

    Returns the first process that failed.
    """
    running, lost, deadline = list(members), None, None
    while running and (deadline is None or time.monotonic() < deadline):
        wait([member.sentinel for member in running], None if deadline is None else max(0.0, deadline - time.monotonic()))
        ended = [member for member in running if not member.is_alive()]
        running = [member for member in running if member not in ended]
        # a killed process is the cause; a process that exited with LOST is a consequence
        failed = sorted((member for member in ended if member.exitcode), key=lambda member: member.exitcode == LOST)
        if lost is None and failed:
            lost = failed[0]
        if deadline is None and (lost or members[0] in ended):
            deadline = time.monotonic() + _GRACE
    return lost


def _end_of(member: SpawnProcess) -> str:
    code = member.exitcode or 0
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


@contextmanager
def _forwarding_signals_to(main: SpawnProcess) -> Iterator[list[int]]:
    """Forward SIGINT and SIGTERM to the main process; yields the list of forwarded signals."""
    forwarded: list[int] = []

    def forward(number: int, _frame: FrameType | None) -> None:
        forwarded.append(number)
        if main.pid and main.is_alive():
            os.kill(main.pid, number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield forwarded
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def environment(rank: int, size: int, port: int) -> dict[str, str]:
    """The environment variables that torchrun sets for a process on a single machine. The store is at `port`."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # the launcher hosts the store, not rank 0
    }


def _member(rank: int, size: int, port: int, work: Callable[..., int], arguments: Sequence[object]) -> None:
    os.setpgid(0, 0)  # Ctrl-C in a terminal reaches only the launcher, which forwards it to the main process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ |= environment(rank, size, port)
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # not reachable from other machines
    sys.exit(work(*arguments))


def _end_with_parent() -> None:
    """Send this process SIGTERM, so that it saves and stops, when its parent process exits."""
    parent = multiprocessing.parent_process()
    assert parent
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
