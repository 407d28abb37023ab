"""Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon): steps for matrices, as long in every direction.

A matrix's update is its gradient's momentum with all singular values brought near one, by a few steps of Newton-Schulz. They
are taken for all matrices of one shape at once, which is what makes them cheap for small models: PyTorch's own Muon takes
them one by one. An update is scaled as Moonlight does (Liu et al. 2025, arXiv 2502.16982), to the size of AdamW's, so that
one learning rate serves both.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from .plain import PlainOptimizer
from .sharding import parted_like, whole

MOMENTUM = 0.9
# The first three of the minimax odd polynomials of degree 5 that would bring 0.003 to 1 near 1 in four steps, each the best for
# what those before it leave (Amsel et al. 2025, arXiv 2505.16932). A fourth step changes no loss that was measured.
_COEFFICIENTS = ((8.3837, -24.7659, 18.3571), (4.0434, -3.0114, 0.5695), (3.5056, -2.6267, 0.5257))
_RMS = 0.2  # of an element of AdamW's updates, about


class Muon(PlainOptimizer):
    """Steps for matrices. A group's `parts` is how many matrices lie side by side in one, as queries, keys and values do;
    `dtype` is what products of them are computed in."""

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float, weight_decay: float, dtype: torch.dtype) -> None:
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay, "parts": 1})
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every matrix that has a gradient."""
        assert closure is None
        by_shape: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
        stepped = [
            (group, parameter) for group in self.param_groups for parameter in group["params"] if parameter.grad is not None
        ]
        for group, parameter in stepped:
            gradient, state = parameter.grad, self.state[parameter]
            if not state:
                state["momentum"] = torch.zeros_like(parameter)
            momentum = state["momentum"].lerp_(gradient, 1 - MOMENTUM)
            ahead = whole(gradient.lerp(momentum, MOMENTUM))  # Nesterov's
            for piece in ahead.chunk(group["parts"], 1):
                by_shape[piece.shape].append(piece)
        updates = {shape: iter(orthogonal(_stacked(pieces, self._dtype)).unbind(0)) for shape, pieces in by_shape.items()}
        for group, parameter in stepped:
            rows, columns = parameter.shape[0], parameter.shape[1] // group["parts"]
            pieces = [next(updates[rows, columns]) for _ in range(group["parts"])]
            update = pieces[0] if len(pieces) == 1 else torch.cat(pieces, 1)
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.add_(parted_like(update, parameter), alpha=-group["lr"] * _RMS * max(rows, columns) ** 0.5)


def orthogonal(matrices: Tensor) -> Tensor:
    """`matrices` (count, rows, columns), each with its singular values brought near one."""
    x: Tensor = matrices / (matrices.norm(dim=(-2, -1), keepdim=True) * 1.01 + 1e-7)
    tall = x.shape[1] > x.shape[2]  # products of the shorter side; turning a matrix over takes longer than they do
    for a, b, c in _COEFFICIENTS:
        gram = x.mT @ x if tall else x @ x.mT
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, x, factor, beta=a) if tall else torch.baddbmm(x, factor, x, beta=a)
    return x


def _stacked(matrices: list[Tensor], dtype: torch.dtype) -> Tensor:
    """`matrices` of one shape together, in `dtype`."""
    result = matrices[0].new_empty(len(matrices), *matrices[0].shape, dtype=dtype)
    return torch.stack(matrices, out=result)
