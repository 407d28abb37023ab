"""Start several processes on this machine that train one model, and stay with them until they have ended.

Across machines torchrun does that; the processes find each other in the same way (parallel.py).
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

LOST = 113  # the exit code of a process that ended because another one is gone
_GRACE = 10.0  # seconds that the others get to end by themselves: enough to finish a checkpoint that is being written


def launch(processes: int, work: Callable[..., int], *arguments: object) -> int:
    """`work(*arguments)` in `processes` processes that are a process_group; the exit code of the one that leads.

    SIGINT and SIGTERM are passed on to it. Where a process dies, the others are ended within seconds, and LostProcessError
    is raised; where the main process was interrupted, KeyboardInterrupt.
    """
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
    context = multiprocessing.get_context("spawn")
    members = [
        context.Process(target=_member, args=(rank, processes, store.port, work, arguments)) for rank in range(processes)
    ]
    main = members[0]
    try:
        with _passing_signals_to(main) as passed:
            for member in members:
                member.start()
            lost = _watch(members)
    finally:
        for member in members:
            if member.pid:
                member.kill()
                member.join()
    if main.exitcode is not None and main.exitcode >= 0 and main.exitcode != LOST:
        return main.exitcode  # it ended by itself, and has said why
    if passed:
        raise KeyboardInterrupt
    assert lost
    raise LostProcessError(
        f"Process {members.index(lost)} of {processes} {_end_of(lost)}. Training stopped; its checkpoints stay.",
        "Its own messages are above; the system ends a process that takes too much memory. Run again to "
        "resume from the newest checkpoint.",
    )


def _watch(members: Sequence[SpawnProcess]) -> SpawnProcess | None:
    """Wait until all ended, or a grace period after one failed or the main process ended; return the first that failed."""
    running, lost, deadline = list(members), None, None
    while running and (deadline is None or time.monotonic() < deadline):
        wait([member.sentinel for member in running], None if deadline is None else max(0.0, deadline - time.monotonic()))
        ended = [member for member in running if not member.is_alive()]
        running = [member for member in running if member not in ended]
        # one that was killed is the cause; those that ended in the same moment may have ended for want of it
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
def _passing_signals_to(main: SpawnProcess) -> Iterator[list[int]]:
    """Inside the block SIGINT and SIGTERM reach the main process; gives the list of those that came."""
    passed: list[int] = []

    def pass_on(number: int, _frame: FrameType | None) -> None:
        passed.append(number)
        if main.pid and main.is_alive():
            os.kill(main.pid, number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield passed
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def environment(rank: int, size: int, port: int) -> dict[str, str]:
    """What torchrun tells each process of one machine, where the store at `port` is there already."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # the store is not the main process's to open
    }


def _member(rank: int, size: int, port: int, work: Callable[..., int], arguments: Sequence[object]) -> None:
    os.setpgid(0, 0)  # Ctrl-C in a terminal reaches whoever started this, who passes it on to the main process alone
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ |= environment(rank, size, port)
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # nobody outside this machine is to reach it
    sys.exit(work(*arguments))


def _end_with_parent() -> None:
    """Ask this process to stop, and save, when the one that started it is gone."""
    parent = multiprocessing.parent_process()
    assert parent
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
