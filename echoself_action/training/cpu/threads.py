"""Two threads for training on a CPU, each with half of the cores and half of the sequences of a batch.

The operations of a small model are so short that, if all cores share each one, much of a step is spent on synchronisation and
cache misses. Instead each thread computes the forward and backward pass of its own sequences. There are two threads because the
GIL serialises the Python code between operations. A single core computes the same halves one after the other, with identical
results.
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

# Python's default of 5 ms is a fifth of a small model's step
_SWITCH_INTERVAL_S = 2e-4


def thread_count(model: Model, device: torch.device, sharded: bool) -> int:
    """The number of threads that compute the model's gradients; it does not depend on the number of cores.

    It is 1 for a NanEcho, which uses PyTorch's global random generator, and for a sharded model, which communicates during the
    forward and backward pass.
    """
    return 2 if device.type == "cpu" and architecture_of(model.config).accelerated and not sharded else 1


class Threads:
    """A pool of `count` threads (1 or 2), of which the first is the calling thread."""

    def __init__(self, count: int) -> None:
        assert count in (1, 2)
        self.count = count
        self._executor = ThreadPoolExecutor(1, "training")  # starts its thread on the first submit
        self._interval_before = sys.getswitchinterval()

    def __enter__(self) -> "Threads":
        if self.count > 1:
            sys.setswitchinterval(_SWITCH_INTERVAL_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown()
        sys.setswitchinterval(self._interval_before)

    def map(self, work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """`work(item)` for each of at most two items, in parallel if there are two threads and two cores.

        Waits for both, then raises the error of the first that failed, in order of the items.
        """
        cores = torch.get_num_threads()
        if self.count == 1 or cores == 1 or len(items) == 1:
            return [work(item) for item in items]

        def with_half_of_the_cores(item: Item) -> Result:
            torch.set_num_threads(cores // 2)  # of the calling thread
            return work(item)

        first, second = items
        other = self._executor.submit(with_half_of_the_cores, second)
        try:
            return [with_half_of_the_cores(first), other.result()]
        finally:
            wait([other])
            torch.set_num_threads(cores)
