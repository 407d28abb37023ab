"""The loss of a language model's head, and its gradients, a chunk of positions at a time.

Logits are the largest tensor of a small model, and plain autograd holds them several times over: as computed, in fp32, as
log-probabilities, and their gradients. Here a chunk of them becomes its own gradient in place and is gone.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

LOGITS_AT_ONCE = 1 << 26  # of products: 128 MiB in bfloat16
_FLOATS_AT_ONCE = 1 << 19  # of what is computed in fp32: it is to stay in the cache
_MULTIPLE = 32  # columns that the matrix kernels like: a vocabulary of 65 is computed as 96


def linear_cross_entropy(x: Tensor, weight: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
    """Cross-entropy in nats of `targets` (positions), where `x` (positions, width) times `weight` (vocabulary, width)
    transposed are the logits. Products are in autocast's dtype where that is on; all else is in fp32."""
    if torch.is_grad_enabled() and weight.requires_grad:
        dtype = torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else x.dtype
        loss: Tensor = _Chunked.apply(x, weight, targets, dtype, reduction == "mean")  # type: ignore[no-untyped-call]
        return loss
    return F.cross_entropy(F.linear(x, weight).float(), targets, reduction=reduction)


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype, mean: bool) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            positions, (vocabulary, width) = len(x), weight.shape
            padded = -(-vocabulary // _MULTIPLE) * _MULTIPLE
            head, inputs = weight.new_zeros(padded, width, dtype=dtype), x.to(dtype)
            head[:vocabulary] = weight
            of_inputs, of_head = torch.empty_like(inputs), None
            total = torch.zeros((), dtype=torch.float32, device=x.device)
            for here in _chunks(positions, LOGITS_AT_ONCE // padded):
                logits = torch.mm(inputs[here], head.t())
                for rows in _chunks(len(logits), _FLOATS_AT_ONCE // padded):
                    total += _into_gradient(logits[rows], targets[here][rows, None], vocabulary, positions if mean else 1)
                torch.mm(logits, head, out=of_inputs[here])
                part = torch.mm(logits.t(), inputs[here])
                of_head = part if of_head is None else of_head.float().add_(part)
            assert of_head is not None
            ctx.save_for_backward(of_inputs, of_head[:vocabulary])
            ctx.dtypes = x.dtype, weight.dtype
            return total / positions if mean else total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        of_inputs, of_head = ctx.saved_tensors
        of_x, of_weight = ctx.dtypes
        return (of_inputs * gradient).to(of_x), (of_head * gradient).to(of_weight), None, None, None


def _into_gradient(logits: Tensor, wanted: Tensor, vocabulary: int, share: int) -> Tensor:
    """The summed loss of `logits` (positions, padded vocabulary), which become their gradient, divided by `share`."""
    floats = logits.float()
    floats[:, vocabulary:] = -torch.inf
    floats -= floats.amax(1, keepdim=True)
    loss = -floats.gather(1, wanted).sum()
    sums = floats.exp_().sum(1, keepdim=True)
    floats *= 1 / (sums * share)
    floats.scatter_add_(1, wanted, floats.new_full(wanted.shape, -1 / share))
    logits.copy_(floats)
    return loss + sums.log().sum()


def _chunks(count: int, size: int) -> Iterator[slice]:
    size = max(1, size)
    return (slice(start, min(count, start + size)) for start in range(0, count, size))
