"""The loss of a language model's head, and its gradients, a chunk of positions at a time.

Logits are the largest tensor of a small model, and plain autograd holds them several times over: as computed, in fp32, as
log-probabilities, and their gradients. Here a chunk of them becomes its own gradient in place and is gone.
"""

import ctypes
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import native

LOGITS_AT_ONCE = 1 << 26  # of products: 128 MiB in bfloat16
_FLOATS_AT_ONCE = 1 << 19  # of what a CPU computes in fp32: it is to stay in the cache
_MULTIPLE = {"cpu": 32, "cuda": 64}  # columns that the matrix kernels like: a vocabulary of 65 is computed as 96

IntoGradient = Callable[[Tensor, Tensor, int], Tensor]


def linear_cross_entropy(
    x: Tensor, weight: Tensor, targets: Tensor, reduction: str = "mean", by: IntoGradient | None = None
) -> Tensor:
    """Cross-entropy in nats of `targets` (positions), where `x` (positions, width) times `weight` (vocabulary, width)
    transposed are the logits. Products are in autocast's dtype where that is on; all else is in fp32.

    `by` is what is to compute `into_gradient`.
    """
    if torch.is_grad_enabled() and weight.requires_grad:
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        return head_cross_entropy(x, padded_head(weight, dtype), targets, len(weight), reduction, by)
    return F.cross_entropy(F.linear(x, weight).float(), targets, reduction=reduction)


def padded_head(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """`weight` (vocabulary, width) in `dtype`, with rows of zeros up to a number that the matrix kernels like."""
    return F.pad(weight.to(dtype), (0, 0, 0, -len(weight) % _MULTIPLE[weight.device.type]))


def head_cross_entropy(
    x: Tensor,
    head: Tensor,
    targets: Tensor,
    vocabulary: int,
    reduction: str = "mean",
    by: IntoGradient | None = None,
) -> Tensor:
    """`linear_cross_entropy` for training, with what `padded_head` made of the weight: `head` (padded vocabulary, width), in
    whose dtype products are, of which `vocabulary` rows are words."""
    loss: Tensor = _Chunked.apply(  # type: ignore[no-untyped-call]
        x.to(head.dtype), head, targets, vocabulary, reduction == "mean", by or into_gradient
    )
    return loss


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, head: Tensor, targets: Tensor, vocabulary: int, mean: bool, into_gradient: IntoGradient
    ) -> Tensor:
        device = x.device.type
        with torch.autocast(device, enabled=False):
            positions, padded = len(x), len(head)
            of_x, of_head = torch.empty_like(x), None
            total = torch.zeros((), dtype=torch.float32, device=x.device)
            floats_at_once = _FLOATS_AT_ONCE if device == "cpu" else LOGITS_AT_ONCE
            for here in _chunks(positions, LOGITS_AT_ONCE // padded):
                logits = torch.mm(x[here], head.t())
                for rows in _chunks(len(logits), floats_at_once // padded):
                    total += into_gradient(logits[rows], targets[here][rows, None], vocabulary)
                torch.mm(logits, head, out=of_x[here])
                part = torch.mm(logits.t(), x[here])
                of_head = part if of_head is None else of_head.float().add_(part)
            assert of_head is not None
            ctx.save_for_backward(of_x, of_head.to(head.dtype))
            ctx.divisor = divisor = positions if mean else 1
            return total / divisor

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        of_x, of_head = ctx.saved_tensors
        share = gradient / ctx.divisor  # not before: float16 has no numbers as small as a mean's gradients, unscaled
        return of_x * share, of_head * share, None, None, None, None


def into_gradient(logits: Tensor, wanted: Tensor, vocabulary: int) -> Tensor:
    """The summed loss of `logits` (positions, padded vocabulary), which become its gradient; `wanted` is (positions, 1)."""
    floats = logits.float()
    floats[:, vocabulary:] = -torch.inf
    most = floats.amax(1, keepdim=True)
    loss = (most - floats.gather(1, wanted)).sum()
    probabilities = torch.softmax(floats, 1)
    loss -= probabilities.amax(1).log().sum()  # the largest is e to the power of 0, divided by the sum of all
    probabilities.scatter_add_(1, wanted, floats.new_full(wanted.shape, -1))
    logits.copy_(probabilities)
    return loss


def native_into_gradient() -> IntoGradient:
    """`into_gradient` by `native/loss.c`, for logits in bfloat16, in one thread at a time."""
    scratch = native.Scratch()

    def into_gradient(logits: Tensor, wanted: Tensor, vocabulary: int) -> Tensor:
        losses = torch.empty(len(logits), dtype=torch.float32)
        places = (tensor.data_ptr() for tensor in (logits, wanted, losses))
        library, at = native.library(), ctypes.byref(_Logits(*logits.shape, vocabulary, torch.get_num_threads(), *places))
        library.into_gradient(at, scratch.at_least(library.loss_scratch(at)))
        return losses.sum()

    return into_gradient


class _Logits(ctypes.Structure):
    """As in loss.c."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in ("rows", "columns", "vocabulary", "threads")),
        *((name, ctypes.c_void_p) for name in ("logits", "targets", "losses")),
    ]


def _chunks(count: int, size: int) -> Iterator[slice]:
    size = max(1, size)
    return (slice(start, min(count, start + size)) for start in range(0, count, size))
