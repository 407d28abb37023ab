"""Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon): momentum orthogonalized by Newton-Schulz, for matrices.

The update of a matrix is the momentum of its gradient with all singular values brought close to one, by a few Newton-Schulz
iterations. These are batched over all matrices of the same shape, which makes them cheap for small models; `torch.optim.Muon`
processes one matrix at a time. As in Moonlight (Liu et al. 2025, arXiv 2502.16982), updates are scaled to the RMS of AdamW's,
so that both optimizers share a learning rate.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Self

import torch
from torch import Tensor

from ...native import Memory, optimizer_steps
from ..distributed.sharding import sharded_like, whole
from .adamw import EagerOptimizer

MOMENTUM = 0.9
_SIDE_BY_SIDE = {"c_attn": 3}  # matrices of each head that are concatenated in one parameter: query, key and value
# Polar Express (Amsel et al. 2025, arXiv 2505.16932): the first three of the four optimal odd polynomials of degree 5 for
# singular values from 0.003 to 1. The fourth iteration made no measurable difference to the loss.
_COEFFICIENTS = ((8.3837, -24.7659, 18.3571), (4.0434, -3.0114, 0.5695), (3.5056, -2.6267, 0.5257))
_RMS = 0.2  # about that of AdamW's updates
_MAX_BATCH_ELEMENTS = 1 << 24  # limits temporary memory, which is several times that


class Muon(EagerOptimizer):
    """Muon for matrices. `side_by_side` of a group is the number of matrices concatenated in each parameter.

    Query, key and value of each head are matrices of their own (MuonSplit; Zhang et al. 2026, arXiv 2605.08933): a model learns
    as well as with one matrix for all heads, and the Gram matrices are much smaller (docs/recipe.md).

    Newton-Schulz iterations are computed in `dtype`; by `native/csrc/muon.h` if `by_native` is true, else by PyTorch.
    """

    MOMENTS = ("momentum",)

    @classmethod
    def for_parameters(
        cls, named: Mapping[str, Tensor], heads: int, rate: float, decay: float, dtype: torch.dtype, native: bool
    ) -> Self:
        """Weight decay applies to all parameters."""
        by_count: dict[int, list[Tensor]] = defaultdict(list)
        for name, parameter in named.items():
            by_count[_SIDE_BY_SIDE.get(name.split(".")[-2], 0) * heads or 1].append(parameter)
        groups = [{"params": parameters, "side_by_side": count} for count, parameters in by_count.items()]
        return cls(groups, rate, decay, dtype, native)

    def __init__(
        self, groups: Iterable[dict[str, Any]], lr: float, weight_decay: float, dtype: torch.dtype, by_native: bool = False
    ) -> None:
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay, "side_by_side": 1})
        self._dtype, self._memory = dtype, Memory() if by_native else None

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            by_shape: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for parameters in by_shape.values():
                if self._memory:
                    self._update_natively(parameters, group, self._memory)
                    continue
                count = max(1, _MAX_BATCH_ELEMENTS // parameters[0].numel())
                for start in range(0, len(parameters), count):
                    self._update(parameters[start : start + count], group)

    def _update_natively(self, parameters: list[Tensor], group: dict[str, Any], memory: Memory) -> None:
        """`_update` by native kernels, and of any number of parameters."""
        count, (rows, columns) = group["side_by_side"], parameters[0].shape
        optimizer_steps.muon(
            parameters,
            [p.grad for p in parameters if p.grad is not None],
            [self._momentum(p) for p in parameters],
            count,
            _COEFFICIENTS,
            MOMENTUM,
            group["lr"] * _RMS * max(rows, columns // count) ** 0.5,
            1 - group["lr"] * group["weight_decay"],
            self.gradient_scale,
            self._dtype,
            memory,
        )

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """Update parameters of the same shape."""
        count = group["side_by_side"]
        pieces = [piece for parameter in parameters for piece in self._nesterov_momentum(parameter).chunk(count, 1)]
        updates = orthogonalize(_stacked(pieces, self._dtype), self._dtype).unbind(0)
        rate = group["lr"] * _RMS * max(pieces[0].shape) ** 0.5
        for number, parameter in enumerate(parameters):
            own = updates[number * count : (number + 1) * count]
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.add_(sharded_like(own[0] if count == 1 else torch.cat(own, 1), parameter), alpha=-rate)

    def _nesterov_momentum(self, parameter: Tensor) -> Tensor:
        """Update the momentum with this step's gradient, and return the full Nesterov momentum."""
        gradient = parameter.grad
        assert gradient is not None
        momentum = self._momentum(parameter).lerp_(gradient, 1 - MOMENTUM)
        return whole(gradient.lerp(momentum, MOMENTUM))

    def _momentum(self, parameter: Tensor) -> Tensor:
        state: dict[str, Tensor] = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        return state["momentum"]


def orthogonalize(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """Newton-Schulz in `dtype`: bring the singular values of each of `matrices` (count, rows, columns) close to one."""
    x: Tensor = (matrices / (matrices.norm(dim=(-2, -1), keepdim=True) * 1.01 + 1e-7)).to(dtype)
    tall = x.shape[1] > x.shape[2]  # the smaller Gram matrix; transposing the input instead would take longer
    for a, b, c in _COEFFICIENTS:
        gram = x.mT @ x if tall else x @ x.mT
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, x, factor, beta=a) if tall else torch.baddbmm(x, factor, x, beta=a)
    return x


def _stacked(matrices: list[Tensor], dtype: torch.dtype) -> Tensor:
    """Stack `matrices` of the same shape, in `dtype`; in float32 for float16, in which small gradients would underflow."""
    dtype = torch.float32 if dtype is torch.float16 else dtype
    result = matrices[0].new_empty(len(matrices), *matrices[0].shape, dtype=dtype)
    return torch.stack(matrices, out=result)
