"""The cross-entropy of a language model's head and its gradients, computed in chunks of positions.

The logits are the largest tensor of a small model, and autograd keeps them several times: as computed, in fp32, as
log-probabilities, and as gradients. Here the logits of a chunk are overwritten by their gradients and then freed.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

LOGITS_AT_ONCE = 1 << 26  # per matrix product: 128 MiB in bfloat16
_FLOATS_AT_ONCE = 1 << 19  # fp32 values that a CPU computes at a time: they fit into its cache
_MULTIPLE = {"cpu": 32, "cuda": 64}  # the vocabulary is padded to this multiple, for which matrix kernels are fastest

IntoGradient = Callable[[Tensor, Tensor, int], Tensor]
ChunkGradients = Callable[[Tensor, Tensor, Tensor, int, Tensor], tuple[Tensor, Tensor]]


def linear_cross_entropy(
    x: Tensor, weight: Tensor, targets: Tensor, reduction: str = "mean", gradients: ChunkGradients | None = None
) -> Tensor:
    """Cross-entropy in nats of `targets` (positions), for the logits `x` (positions, width) @ `weight` (vocabulary, width).T.

    Matrix products are in autocast's dtype if it is enabled; all else is in fp32. `gradients` replaces `chunk_gradients`.
    """
    if not (torch.is_grad_enabled() and weight.requires_grad):
        return F.cross_entropy(F.linear(x, weight).float(), targets, reduction=reduction)
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    head = F.pad(weight.to(dtype), (0, 0, 0, -len(weight) % _MULTIPLE[device]))
    loss: Tensor = _Chunked.apply(  # type: ignore[no-untyped-call]
        x.to(dtype), head, targets, len(weight), reduction == "mean", gradients or chunk_gradients
    )
    return loss


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, head: Tensor, targets: Tensor, vocabulary: int, mean: bool, gradients: ChunkGradients
    ) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            positions = len(x)
            grad_x, grad_head = torch.empty_like(x), None
            total = torch.zeros((), dtype=torch.float32, device=x.device)
            for chunk in _chunks(positions, LOGITS_AT_ONCE // len(head)):
                loss, part = gradients(x[chunk], head, targets[chunk], vocabulary, grad_x[chunk])
                total += loss
                grad_head = part if grad_head is None else grad_head.float().add_(part)
            assert grad_head is not None
            ctx.save_for_backward(grad_x, grad_head.to(head.dtype))
            ctx.divisor = divisor = positions if mean else 1
            return total / divisor

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        grad_x, grad_head = ctx.saved_tensors
        scale = gradient / ctx.divisor  # applied last: the unscaled gradients of a mean underflow in float16
        return grad_x.mul_(scale), grad_head.mul_(scale), None, None, None, None


def into_gradient(logits: Tensor, targets: Tensor, vocabulary: int) -> Tensor:
    """The summed loss of `logits` (positions, padded vocabulary) for `targets` (positions, 1).

    The logits are overwritten by the gradient.
    """
    floats = logits.float()
    floats[:, vocabulary:] = -torch.inf
    largest = floats.amax(1, keepdim=True)
    loss = (largest - floats.gather(1, targets)).sum()
    probabilities = torch.softmax(floats, 1)
    loss -= probabilities.amax(1).log().sum()  # the largest probability is exp(0) / sum of exponentials
    probabilities.scatter_add_(1, targets, floats.new_full(targets.shape, -1))
    logits.copy_(probabilities)
    return loss


def chunk_gradients(
    x: Tensor, head: Tensor, targets: Tensor, vocabulary: int, grad_x: Tensor, into_gradient: IntoGradient = into_gradient
) -> tuple[Tensor, Tensor]:
    """The summed loss of a chunk of positions in nats, and its gradient with respect to `head` (padded vocabulary, width).

    `head` is the output layer's weight: `vocabulary` rows of tokens, and rows of zeros. The gradient with respect to `x`
    (positions, width) is written to `grad_x`. `targets` is (positions).
    """
    at_once = (_FLOATS_AT_ONCE if x.device.type == "cpu" else LOGITS_AT_ONCE) // len(head)
    loss = torch.zeros((), dtype=torch.float32, device=x.device)
    logits = torch.mm(x, head.t())
    for rows in _chunks(len(logits), at_once):
        loss += into_gradient(logits[rows], targets[rows, None], vocabulary)
    torch.mm(logits, head, out=grad_x)
    return loss, torch.mm(logits.t(), x)


def _chunks(count: int, size: int) -> Iterator[slice]:
    """Slices of about `size` elements, of a multiple of 32 if possible, for which matrix kernels are fastest."""
    size = max(1, size // 32 * 32 or size)
    return (slice(start, min(count, start + size)) for start in range(0, count, size))
