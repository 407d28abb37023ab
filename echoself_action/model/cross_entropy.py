"""The loss of a language model's head, and its gradients, a chunk of positions at a time.

Logits are the largest tensor of a small model, and plain autograd holds them several times over: as computed, in fp32, as
log-probabilities, and their gradients. Here a chunk of them becomes its own gradient in place and is gone.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

LOGITS_AT_ONCE = 1 << 26  # of products: 128 MiB in bfloat16
_FLOATS_AT_ONCE = 1 << 19  # of what a CPU computes in fp32: it is to stay in the cache
_MULTIPLE = {"cpu": 32, "cuda": 64}  # columns that the matrix kernels like: a vocabulary of 65 is computed as 96

IntoGradient = Callable[[Tensor, Tensor, int], Tensor]
ChunkGradients = Callable[[Tensor, Tensor, Tensor, int, Tensor], tuple[Tensor, Tensor]]


def linear_cross_entropy(
    x: Tensor, weight: Tensor, targets: Tensor, reduction: str = "mean", by: ChunkGradients | None = None
) -> Tensor:
    """Cross-entropy in nats of `targets` (positions), where `x` (positions, width) times `weight` (vocabulary, width)
    transposed are the logits. Products are in autocast's dtype where that is on; all else is in fp32.

    `by` is what is to compute `chunk_gradients`.
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
    by: ChunkGradients | None = None,
) -> Tensor:
    """`linear_cross_entropy` for training, with what `padded_head` made of the weight: `head` (padded vocabulary, width), in
    whose dtype products are, of which `vocabulary` rows are words."""
    loss: Tensor = _Chunked.apply(  # type: ignore[no-untyped-call]
        x.to(head.dtype), head, targets, vocabulary, reduction == "mean", by or chunk_gradients
    )
    return loss


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, head: Tensor, targets: Tensor, vocabulary: int, mean: bool, by: ChunkGradients) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            positions = len(x)
            of_x, of_head = torch.empty_like(x), None
            total = torch.zeros((), dtype=torch.float32, device=x.device)
            for here in _chunks(positions, LOGITS_AT_ONCE // len(head)):
                loss, part = by(x[here], head, targets[here], vocabulary, of_x[here])
                total += loss
                of_head = part if of_head is None else of_head.float().add_(part)
            assert of_head is not None
            ctx.save_for_backward(of_x, of_head.to(head.dtype))
            ctx.divisor = divisor = positions if mean else 1
            return total / divisor

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        of_x, of_head = ctx.saved_tensors
        share = gradient / ctx.divisor  # not before: float16 has no numbers as small as a mean's gradients, unscaled
        return of_x.mul_(share), of_head.mul_(share), None, None, None, None


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


def chunk_gradients(
    x: Tensor, head: Tensor, targets: Tensor, vocabulary: int, of_x: Tensor, into_gradient: IntoGradient = into_gradient
) -> tuple[Tensor, Tensor]:
    """The summed loss of some positions in nats, and its gradient for `head` (padded vocabulary, width); that for `x`
    (positions, width) is written to `of_x`. The others are as in `head_cross_entropy`."""
    at_once = (_FLOATS_AT_ONCE if x.device.type == "cpu" else LOGITS_AT_ONCE) // len(head)
    loss = torch.zeros((), dtype=torch.float32, device=x.device)
    logits = torch.mm(x, head.t())
    for rows in _chunks(len(logits), at_once):
        loss += into_gradient(logits[rows], targets[rows, None], vocabulary)
    torch.mm(logits, head, out=of_x)
    return loss, torch.mm(logits.t(), x)


def _chunks(count: int, size: int) -> Iterator[slice]:
    """Of about `size`: what native code takes is a multiple of 32."""
    size = max(1, size // 32 * 32 or size)
    return (slice(start, min(count, start + size)) for start in range(0, count, size))
