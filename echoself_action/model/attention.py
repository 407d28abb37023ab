"""Causal self-attention, and the key-value cache for generation.

PyTorch's fused attention computes bfloat16 on a CPU with fp32 products, at a third of the speed of bfloat16 products. For
training there, attention is computed by batched bfloat16 matrix products over contiguous heads: a few large operations in the
forward pass and in the backward pass.
"""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from .dropout import dropout_mask

_SPLIT_LENGTH = 128  # minimum positions to compute in two halves: saves 1% of a step at 256, and shorter products are cheap


class KeyValueCache:
    """The keys and values of one layer for a text of up to `capacity` tokens, in memory that is allocated once."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.length = capacity, 0
        self._buffer: Tensor | None = None  # (2, batch, heads, capacity, head size)

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Append `key` and `value` and return those of the whole text: each (batch, heads, tokens, head size)."""
        end = self.length + key.shape[2]
        if self._buffer is None:
            batch, heads, _, size = key.shape
            self._buffer = torch.empty(2, batch, heads, self.capacity, size, dtype=key.dtype, device=key.device)
        self._buffer[0, :, :, self.length : end] = key
        self._buffer[1, :, :, self.length : end] = value
        self.length = end
        return self._buffer[0, :, :, :end], self._buffer[1, :, :, :end]


def causal_attention(qkv: Tensor, n_head: int, dropout: float) -> Tensor:
    """Causal attention of `qkv` (batch, length, 3 * width), the concatenated queries, keys and values: (batch, length, width).

    `dropout` is the dropout rate of the attention probabilities.
    """
    training = qkv.requires_grad and torch.is_grad_enabled()
    if qkv.device.type == "cpu" and training and (qkv.dtype is torch.bfloat16 or dropout):
        return _unfused_attention(qkv, n_head, dropout)
    query, key, value = _split_heads(qkv, n_head)
    return _merge_heads(F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True))


def cached_attention(qkv: Tensor, n_head: int, cache: KeyValueCache) -> Tensor:
    """`causal_attention` without dropout for the next tokens of the text in `cache`, to which they are appended."""
    query, key, value = _split_heads(qkv, n_head)
    past, length = cache.length, qkv.shape[1]
    key, value = cache.append(key, value)
    # a single token attends to all others; for several, is_causal would align their first with the start of the text
    mask = torch.ones(length, past + length, dtype=torch.bool, device=qkv.device).tril(past) if length > 1 else None
    return _merge_heads(F.scaled_dot_product_attention(query, key, value, attn_mask=mask))


def _split_heads(qkv: Tensor, n_head: int) -> tuple[Tensor, ...]:
    """Queries, keys and values, each (batch, heads, length, head size)."""
    return qkv.view(*qkv.shape[:2], 3, n_head, -1).permute(2, 0, 3, 1, 4).unbind(0)


def _merge_heads(attended: Tensor) -> Tensor:
    """(batch, heads, length, head size) -> (batch, length, width)."""
    return attended.transpose(1, 2).flatten(2)


def _unfused_attention(qkv: Tensor, n_head: int, dropout: float) -> Tensor:
    """`causal_attention` by separate matrix products."""
    batch, length, width = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
    heads = qkv.view(batch, length, 3, n_head, -1).permute(2, 0, 3, 1, 4).reshape(3, batch * n_head, length, -1)
    query, key, value = heads.unbind(0)
    if length < _SPLIT_LENGTH:
        attended = _attend(query, key, value, dropout)
    else:  # the first half of the positions attends to the first half only
        half = length // 2
        first, second = torch.split(query, [half, length - half], 1)
        attended_first = _attend(first, key[:, :half], value[:, :half], dropout)
        attended = torch.cat((attended_first, _attend(second, key, value, dropout)), 1)
    return attended.view(batch, n_head, length, -1).transpose(1, 2).reshape(batch, length, width)


def _attend(query: Tensor, key: Tensor, value: Tensor, dropout: float) -> Tensor:
    """Attention of the last positions, those of `query`, to all: each tensor is (batch * heads, positions, head size)."""
    mask = _causal_mask(query.shape[1], key.shape[1], query.dtype)
    scores = torch.baddbmm(mask, query, key.mT, alpha=query.shape[2] ** -0.5)
    probabilities = torch._softmax(scores, -1, False)  # autocast would compute torch.softmax in fp32
    if dropout:
        probabilities = probabilities * dropout_mask(probabilities, dropout)
    return torch.bmm(probabilities, value)


@functools.lru_cache(maxsize=4)
def _causal_mask(positions: int, length: int, dtype: torch.dtype) -> Tensor:
    """The additive mask (positions, length) of the last `positions`: 0 for visible positions, minus infinity for later ones."""
    return torch.full((positions, length), float("-inf"), dtype=dtype).triu_(1 + length - positions)
