"""Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon): steps for matrices, as long in every direction.

A matrix's update is its gradient's momentum with all singular values brought near one, by a few steps of Newton-Schulz. They
are taken for all matrices of one shape at once, which is what makes them cheap for small models: PyTorch's own Muon takes
them one by one. An update is scaled as Moonlight does (Liu et al. 2025, arXiv 2502.16982), to the size of AdamW's, so that
one learning rate serves both.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Self

import torch
from torch import Tensor

from ...native import Scratch, newton_schulz
from ..distributed.sharding import parted_like, whole
from .adamw import PlainOptimizer

MOMENTUM = 0.9
_SIDE_BY_SIDE = {"c_attn": 3}  # matrices in one parameter: queries, keys and values
# The first three of the minimax odd polynomials of degree 5 that would bring 0.003 to 1 near 1 in four steps, each the best for
# what those before it leave (Amsel et al. 2025, arXiv 2505.16932). A fourth step changes no loss that was measured.
_COEFFICIENTS = ((8.3837, -24.7659, 18.3571), (4.0434, -3.0114, 0.5695), (3.5056, -2.6267, 0.5257))
_RMS = 0.2  # of an element of AdamW's updates, about
_ELEMENTS_AT_ONCE = 1 << 24  # what is computed for them takes several times their memory


class Muon(PlainOptimizer):
    """Steps for matrices. A group's `side_by_side` is how many matrices lie in one, as queries, keys and values do;
    `dtype` is what products of them are computed in, by `native/csrc/newton_schulz.c` where it is for their shape and
    `by_native` says so."""

    MOMENTS = ("momentum",)

    @classmethod
    def for_parameters(cls, named: Mapping[str, Tensor], rate: float, decay: float, dtype: torch.dtype, native: bool) -> Self:
        """All matrices decay."""
        by_count = {
            count: [p for name, p in named.items() if _SIDE_BY_SIDE.get(name.split(".")[-2], 1) == count]
            for count in (1, *_SIDE_BY_SIDE.values())
        }
        groups = [{"params": parameters, "side_by_side": count} for count, parameters in by_count.items()]
        return cls(groups, rate, decay, dtype, native)

    def __init__(
        self, groups: Iterable[dict[str, Any]], lr: float, weight_decay: float, dtype: torch.dtype, by_native: bool = False
    ) -> None:
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay, "side_by_side": 1})
        self._dtype, self._scratch = dtype, Scratch() if by_native else None

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every matrix that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            by_shape: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for parameters in by_shape.values():
                count = max(1, _ELEMENTS_AT_ONCE // parameters[0].numel())
                for start in range(0, len(parameters), count):
                    self._update(parameters[start : start + count], group)

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """One update of some parameters of one shape."""
        count = group["side_by_side"]
        pieces = [piece for parameter in parameters for piece in self._ahead(parameter).chunk(count, 1)]
        updates = orthogonal(_stacked(pieces, self._dtype), self._dtype, self._scratch).unbind(0)
        rate = group["lr"] * _RMS * max(pieces[0].shape) ** 0.5
        for number, parameter in enumerate(parameters):
            own = updates[number * count : (number + 1) * count]
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.add_(parted_like(own[0] if count == 1 else torch.cat(own, 1), parameter), alpha=-rate)

    def _ahead(self, parameter: Tensor) -> Tensor:
        """The whole of its momentum with this step's gradient, as far ahead as Nesterov's is."""
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum = state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        return whole(gradient.lerp(momentum, MOMENTUM))


def orthogonal(matrices: Tensor, dtype: torch.dtype, scratch: Scratch | None = None) -> Tensor:
    """`matrices` (count, rows, columns), each with its singular values brought near one, computed in `dtype`; with `scratch` by
    native code, where they are of a shape that it is for."""
    x: Tensor = (matrices / (matrices.norm(dim=(-2, -1), keepdim=True) * 1.01 + 1e-7)).to(dtype)
    if scratch and newton_schulz.supports(x):
        return newton_schulz.newton_schulz_(x.contiguous(), _COEFFICIENTS, scratch)
    tall = x.shape[1] > x.shape[2]  # products of the shorter side; turning a matrix over takes longer than they do
    for a, b, c in _COEFFICIENTS:
        gram = x.mT @ x if tall else x @ x.mT
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, x, factor, beta=a) if tall else torch.baddbmm(x, factor, x, beta=a)
    return x


def _stacked(matrices: list[Tensor], dtype: torch.dtype) -> Tensor:
    """`matrices` of one shape together, in `dtype`; for float16, which has no numbers as small as some gradients', in fp32."""
    dtype = torch.float32 if dtype is torch.float16 else dtype
    result = matrices[0].new_empty(len(matrices), *matrices[0].shape, dtype=dtype)
    return torch.stack(matrices, out=result)
