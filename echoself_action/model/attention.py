"""Causal self-attention for training on a CPU, forward and backward written out.

PyTorch's fused attention computes bfloat16 on a CPU with fp32 products, at a third of the speed of its matrix products in
that dtype. Here everything is a batched product of bfloat16 matrices, over heads that are copied together once: a few big
operations each way, and no intermediate that autograd would keep beside the probabilities.
"""

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .cache import KeyValueCache
from .dropout import kept


def causal_attention(heads: Tensor, n_head: int, dropout: float) -> Tensor:
    """What each position takes from those up to it: (batch, length, width), for `heads` (batch, length, 3 * width), the
    queries, keys and values side by side. `dropout` is of the attention's probabilities."""
    trains = heads.requires_grad and torch.is_grad_enabled()
    if heads.device.type == "cpu" and trains and (heads.dtype is torch.bfloat16 or dropout):
        attended: Tensor = _WrittenOut.apply(heads, n_head, dropout)  # type: ignore[no-untyped-call]
        return attended
    query, key, value = _parted(heads, n_head)
    return _joined(F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True))


def continued_attention(heads: Tensor, n_head: int, past: KeyValueCache) -> Tensor:
    """The same for the next tokens of the text that `past` is of, which has them too afterwards; without dropout."""
    query, key, value = _parted(heads, n_head)
    before, length = past.length, heads.shape[1]
    key, value = past.append(key, value)
    # one token looks at all; PyTorch's own causal mask would have several begin at the text's start
    several = torch.ones(length, before + length, dtype=torch.bool, device=heads.device).tril(before) if length > 1 else None
    return _joined(F.scaled_dot_product_attention(query, key, value, attn_mask=several))


def _parted(heads: Tensor, n_head: int) -> tuple[Tensor, ...]:
    """Queries, keys and values, each (batch, heads, length, size)."""
    return heads.view(*heads.shape[:2], 3, n_head, -1).permute(2, 0, 3, 1, 4).unbind(0)


def _joined(attended: Tensor) -> Tensor:
    """(batch, length, width), for (batch, heads, length, size)."""
    return attended.transpose(1, 2).flatten(2)


class _WrittenOut(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, heads: Tensor, n_head: int, dropout: float) -> Tensor:
        batch, length, width = heads.shape[0], heads.shape[1], heads.shape[2] // 3
        size = width // n_head
        parted = heads.view(batch, length, 3, n_head, size).permute(2, 0, 3, 1, 4).reshape(3, batch * n_head, length, size)
        query, key, value = parted.unbind(0)
        with torch.autocast("cpu", enabled=False):  # it would compute the softmax in fp32
            probabilities = torch.baddbmm(_mask(length, heads.dtype), query, key.mT, alpha=size**-0.5).softmax(-1)
        dropped = kept(probabilities, dropout) if dropout else None
        attended = torch.bmm(probabilities if dropped is None else probabilities * dropped, value)
        ctx.save_for_backward(parted, probabilities, dropped)
        ctx.sizes = batch, length, n_head, size
        return attended.view(batch, n_head, length, size).transpose(1, 2).reshape(batch, length, width)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        parted, probabilities, dropped = ctx.saved_tensors
        query, key, value = parted.unbind(0)
        batch, length, n_head, size = ctx.sizes
        gradient = gradient.view(batch, length, n_head, size).transpose(1, 2).reshape(batch * n_head, length, size)
        result = torch.empty_like(parted)
        torch.bmm((probabilities if dropped is None else probabilities * dropped).mT, gradient, out=result[2])
        of_probabilities = torch.bmm(gradient, value.mT)
        if dropped is not None:
            of_probabilities *= dropped
        scores = torch._softmax_backward_data(of_probabilities, probabilities, -1, probabilities.dtype).mul_(size**-0.5)
        torch.bmm(scores, key, out=result[0])
        torch.bmm(scores.mT, query, out=result[1])
        result = result.view(3, batch, n_head, length, size).permute(1, 3, 0, 2, 4)
        return result.reshape(batch, length, 3 * n_head * size), None, None


@functools.lru_cache(maxsize=4)
def _mask(length: int, dtype: torch.dtype) -> Tensor:
    """(length, length): nothing to add where a position may look, minus infinity where it may not."""
    return torch.full((length, length), float("-inf"), dtype=dtype).triu_(1)
