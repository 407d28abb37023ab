"""Dropout (Srivastava et al. 2014) that is deterministic with several threads.

PyTorch's own dropout draws from one generator for all threads, in the order in which they are scheduled.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

_thread_local = threading.local()


@contextmanager
def dropout_seed(seed: int, single_threaded: bool) -> Iterator[None]:
    """Draw the dropout of this thread from `seed` inside the block.

    If `single_threaded`, PyTorch's global generator is seeded instead, for all random numbers.
    """
    if single_threaded:
        torch.manual_seed(seed)
        yield
        return
    _thread_local.generator = torch.Generator().manual_seed(seed)
    try:
        yield
    finally:
        del _thread_local.generator


def dropout(x: Tensor, rate: float, training: bool) -> Tensor:
    """`F.dropout`, drawn from this thread's generator if `dropout_seed` has set one."""
    if not rate or not training:
        return x
    return x * dropout_mask(x, rate) if hasattr(_thread_local, "generator") else F.dropout(x, rate)


def dropout_mask(x: Tensor, rate: float) -> Tensor:
    """The factors of `dropout`, of the shape of `x`: 0 with probability `rate`, else 1 / (1 - rate)."""
    keep = 1 - rate
    return torch.empty_like(x).bernoulli_(keep, generator=getattr(_thread_local, "generator", None)).div_(keep)
