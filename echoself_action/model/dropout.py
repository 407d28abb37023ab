"""Dropout (Srivastava et al. 2014) that several threads can compute at once: PyTorch's draws are from one generator, in the
order in which threads happen to ask it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

_of_thread = threading.local()


@contextmanager
def drawn_from(seed: int, alone: bool) -> Iterator[None]:
    """Inside the block dropout is drawn from `seed`: in this thread, or, where it is `alone`, all that PyTorch draws."""
    if alone:
        torch.manual_seed(seed)
        yield
        return
    _of_thread.generator = torch.Generator().manual_seed(seed)
    try:
        yield
    finally:
        del _of_thread.generator


def dropout(x: Tensor, rate: float, training: bool) -> Tensor:
    """`x` with elements made zero at this rate, and the others larger by as much; as it is where nothing is trained."""
    if not rate or not training:
        return x
    return x * kept(x, rate) if hasattr(_of_thread, "generator") else F.dropout(x, rate)


def kept(x: Tensor, rate: float) -> Tensor:
    """What `dropout` multiplies `x` with: 0 at this rate, else 1 / (1 - rate)."""
    share = 1 - rate
    return torch.empty_like(x).bernoulli_(share, generator=getattr(_of_thread, "generator", None)).div_(share)
