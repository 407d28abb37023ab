"""Causal self-attention.

PyTorch's fused attention computes bfloat16 on a CPU with fp32 products, at a third of the speed of its matrix products in
that dtype. For training there, everything is a batched product of bfloat16 matrices, over heads that are copied together once:
a few big operations each way.
"""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from .dropout import kept
from .kv_cache import KeyValueCache

_WORTH_HALVING = 128  # positions: it spares a hundredth of a step with 256, and the products of short ones are small already


def causal_attention(heads: Tensor, n_head: int, dropout: float) -> Tensor:
    """What each position takes from those up to it: (batch, length, width), for `heads` (batch, length, 3 * width), the
    queries, keys and values side by side. `dropout` is of the attention's probabilities."""
    trains = heads.requires_grad and torch.is_grad_enabled()
    if heads.device.type == "cpu" and trains and (heads.dtype is torch.bfloat16 or dropout):
        return _by_products(heads, n_head, dropout)
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


def _by_products(heads: Tensor, n_head: int, dropout: float) -> Tensor:
    """`causal_attention` with nothing fused."""
    batch, length, width = heads.shape[0], heads.shape[1], heads.shape[2] // 3
    parted = heads.view(batch, length, 3, n_head, -1).permute(2, 0, 3, 1, 4).reshape(3, batch * n_head, length, -1)
    query, key, value = parted.unbind(0)
    if length < _WORTH_HALVING:
        attended = _attended(query, key, value, dropout)
    else:  # the first half of the positions looks at the first half alone
        half = length // 2
        first, second = torch.split(query, [half, length - half], 1)
        of_first = _attended(first, key[:, :half], value[:, :half], dropout)
        attended = torch.cat((of_first, _attended(second, key, value, dropout)), 1)
    return attended.view(batch, n_head, length, -1).transpose(1, 2).reshape(batch, length, width)


def _attended(query: Tensor, key: Tensor, value: Tensor, dropout: float) -> Tensor:
    """What the last positions, those of `query` (number, positions, size), take from `key` and `value`, which have all."""
    mask = _mask(query.shape[1], key.shape[1], query.dtype)
    scores = torch.baddbmm(mask, query, key.mT, alpha=query.shape[2] ** -0.5)
    probabilities = torch._softmax(scores, -1, False)  # autocast would compute torch.softmax in fp32
    if dropout:
        probabilities = probabilities * kept(probabilities, dropout)
    return torch.bmm(probabilities, value)


@functools.lru_cache(maxsize=4)
def _mask(positions: int, length: int, dtype: torch.dtype) -> Tensor:
    """(positions, length): nothing to add where one of the last `positions` may look, minus infinity where it may not."""
    return torch.full((positions, length), float("-inf"), dtype=dtype).triu_(1 + length - positions)
