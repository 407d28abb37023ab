"""PyTorch's optimizers as they are when nothing is compiled.

PyTorch wraps some of their methods in what loads its compiler at the first call, which takes about as long as loading PyTorch.
That is for `torch.compile` alone; the methods inside are the same. (torch/optim/optimizer.py: `_disable_dynamo`,
`_use_grad_for_differentiable`.)
"""

import inspect
from typing import Any

import torch


class PlainOptimizer(torch.optim.Optimizer):
    """The base of an optimizer of one's own."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        inspect.unwrap(torch.optim.Optimizer.add_param_group)(self, param_group)


class AdamW(PlainOptimizer, torch.optim.AdamW):
    """Loshchilov & Hutter 2019."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        inspect.unwrap(torch.optim.AdamW.step)(self, closure)
