"""What attention keeps of a text, so that each further token is computed by itself and not with all those before it."""

import torch
from torch import Tensor


class KeyValueCache:
    """Keys and values of one layer, for a text of up to `capacity` tokens; their memory is taken once, for all of them."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.length = capacity, 0
        self._kept: Tensor | None = None  # (2, batch, heads, capacity, size)

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """The keys and values of the text so far, these at its end: each (batch, heads, tokens, size)."""
        end = self.length + key.shape[2]
        if self._kept is None:
            batch, heads, _, size = key.shape
            self._kept = torch.empty(2, batch, heads, self.capacity, size, dtype=key.dtype, device=key.device)
        self._kept[0, :, :, self.length : end] = key
        self._kept[1, :, :, self.length : end] = value
        self.length = end
        return self._kept[0, :, :, :end], self._kept[1, :, :, :end]
