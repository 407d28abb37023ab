"""Causal self-attention, and the key-value cache for generation."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


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
    query, key, value = _split_heads(qkv, n_head)
    return _merge_heads(F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True))


def causal_weights(qkv: Tensor, n_head: int) -> Tensor:
    """The weights by which `causal_attention` mixes the values, without dropout: (batch, heads, length, length)."""
    query, key, _ = _split_heads(qkv, n_head)
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    visible = torch.ones(scores.shape[-2:], dtype=torch.bool, device=qkv.device).tril()
    return scores.masked_fill(~visible, float("-inf")).softmax(-1)


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
