"""Two threads for training on a CPU, each with half of its cores and half of the work.

Where all cores share every operation, a small model's are so short that much of a step is waiting for each other, and for what
another core has just written. Here each thread takes sequences of its own from their tokens to the gradients. They are two
because between operations Python lets one thread go on at a time. One core does the same halves one after the other, to the
same bits.
"""

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import torch

from ...checkpoint.architectures import architecture_of
from ...model import Model

Item = TypeVar("Item")
Result = TypeVar("Result")

# for which a thread that Python lets wait leaves the other one alone. Python's own, 5 ms, are a fifth of a small model's step
_SWITCH_INTERVAL_S = 2e-4


def thread_count(model: Model, device: torch.device, sharded: bool) -> int:
    """How many threads compute its gradients, whatever the number of cores. A NanEcho draws from PyTorch's one generator, and a
    sharded model talks to other processes while it computes: both take one."""
    return 2 if device.type == "cpu" and architecture_of(model.config).accelerated and not sharded else 1


class Threads:
    """`count` threads (1 or 2): this one, which alone does everything where that is 1, and another."""

    def __init__(self, count: int) -> None:
        assert count in (1, 2)
        self.count = count
        self._others = ThreadPoolExecutor(1, "half")  # starts none before there is work for it
        self._interval_before = sys.getswitchinterval()

    def __enter__(self) -> "Threads":
        if self.count > 1:
            sys.setswitchinterval(_SWITCH_INTERVAL_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._others.shutdown()
        sys.setswitchinterval(self._interval_before)

    def map(self, work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """`work(item)` for each of at most two items, in parallel if there are two threads and two cores.

        Waits for both, and raises the first one's error.
        """
        cores = torch.get_num_threads()
        if self.count == 1 or cores == 1 or len(items) == 1:
            return [work(item) for item in items]

        def with_half(item: Item) -> Result:
            torch.set_num_threads(cores // 2)  # of the thread that calls it
            return work(item)

        first, second = items
        other = self._others.submit(with_half, second)
        try:
            return [with_half(first), other.result()]
        finally:
            wait([other])
            torch.set_num_threads(cores)
