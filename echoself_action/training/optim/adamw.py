"""AdamW, and the base class of the optimizers here.

PyTorch wraps some methods of `torch.optim.Optimizer` in decorators that import its compiler at the first call, which takes
about as long as importing PyTorch. They are needed for `torch.compile` only, so the classes here bypass them.
(torch/optim/optimizer.py: `_disable_dynamo`, `_use_grad_for_differentiable`.)
"""

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from ...native import optimizer_steps

BETAS = (0.9, 0.95)


class EagerOptimizer(torch.optim.Optimizer):
    """Base class of optimizers; `for_parameters` creates one for a subset of a model's parameters.

    `MOMENTS` are the names of the state tensors of a parameter, each of the parameter's shape. If `COUNTS_STEPS`, the
    state also has a scalar `step`. `gradient_scale` is 1 unless the optimizer uses native kernels.
    """

    gradient_scale = 1.0

    MOMENTS: ClassVar[tuple[str, ...]]
    COUNTS_STEPS: ClassVar[bool] = False

    @classmethod
    def for_parameters(
        cls, named: Mapping[str, Tensor], heads: int, rate: float, decay: float, dtype: torch.dtype, native: bool
    ) -> Self:
        """`named` are the parameters by name, of a model with so many `heads` in a block.

        Matrix products are in `dtype`, by `native` kernels if true.
        """
        raise NotImplementedError

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        inspect.unwrap(torch.optim.Optimizer.add_param_group)(self, param_group)


class AdamW(EagerOptimizer, torch.optim.AdamW):
    """AdamW (Loshchilov & Hutter 2019), by `native/csrc/adamw.h` if `native` is true, else by PyTorch's fused kernel."""

    MOMENTS = ("exp_avg", "exp_avg_sq")
    COUNTS_STEPS = True
    _native = False

    @classmethod
    def for_parameters(
        cls,
        named: Mapping[str, Tensor],
        heads: int,  # noqa: ARG003
        rate: float,
        decay: float,
        dtype: torch.dtype,  # noqa: ARG003
        native: bool,
    ) -> Self:
        """Weight decay applies to matrices and embeddings, not to biases and layer norms (as in GPT-2)."""
        matrices, vectors = [p for p in named.values() if p.dim() > 1], [p for p in named.values() if p.dim() == 1]
        groups = [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]
        made = cls(groups, lr=rate, betas=BETAS, fused=True)
        made._native = native
        return made

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:  # the kernels reject empty lists
                continue
            states = [self.state[p] or self._init_state(p) for p in parameters]
            steps = [state["step"] for state in states]
            torch._foreach_add_(steps, 1)
            gradients = [p.grad for p in parameters if p.grad is not None]
            means, squares = ([state[name] for state in states] for name in self.MOMENTS)
            if self._native:
                optimizer_steps.adamw(
                    parameters,
                    gradients,
                    means,
                    squares,
                    [step.item() for step in steps],
                    group["lr"],
                    group["betas"],
                    group["eps"],
                    group["weight_decay"],
                    self.gradient_scale,
                )
                continue
            torch._fused_adamw_(
                parameters,
                gradients,
                means,
                squares,
                [],
                steps,
                amsgrad=False,
                lr=group["lr"],
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                maximize=False,
            )

    def _init_state(self, parameter: Tensor) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.state[parameter]
        state["step"] = torch.zeros((), device=parameter.device)
        state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        return state
