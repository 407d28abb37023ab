"""Run a function in several processes of one group, forked by a server that has imported PyTorch."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
from torch.distributed import TCPStore

from echoself_action.training.distributed.launch import environment

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(
    ["echoself_action.training.trainer", "echoself_action.model.nanecho", "torch.distributed.fsdp"]
)


def start(size: int, work: Callable[..., Any], *arguments: Any) -> tuple[TCPStore, list[Any]]:
    """Start `work(*arguments)` in `size` processes of one group. Keep the returned store until they have ended."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=60))
    processes = [_PROCESSES.Process(target=_member, args=(rank, size, store.port, work, arguments)) for rank in range(size)]
    for process in processes:
        process.start()
    return store, processes


def run_in_group(size: int, work: Callable[..., Any], *arguments: Any) -> None:
    """Run `work(*arguments)` in `size` processes of one group, and wait until all have succeeded."""
    _store, processes = start(size, work, *arguments)
    for process in processes:
        process.join(60)
        process.kill()
    assert [process.exitcode for process in processes] == [0] * size


def _member(rank: int, size: int, port: int, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
    os.environ |= environment(rank, size, port) | {"GLOO_SOCKET_IFNAME": "lo"}
    work(*arguments)
