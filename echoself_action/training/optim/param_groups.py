"""Which optimizer updates which parameters, and the optimizer state by parameter name.

AdamW for all parameters (with GPT-2's weight-decay groups), or Muon for the matrices inside the blocks and AdamW for the rest.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...checkpoint.architectures import architecture_of
from ...model import Model
from ...native import optimizer_steps
from ..distributed.process_group import SINGLE_PROCESS, ProcessGroup
from ..distributed.sharding import broadcast_like
from .adamw import AdamW, EagerOptimizer
from .muon import Muon
from .optimizers import OPTIMIZERS, OptimizerName

CLASSES: Mapping[OptimizerName, type[EagerOptimizer]] = {"muon": Muon, "adamw": AdamW}
_BESIDE_MUON = 0.3  # AdamW's learning rate as a fraction of Muon's: embeddings learn too fast at the same rate
_MOMENTS = {moment for cls in CLASSES.values() for moment in cls.MOMENTS}


class Optimizer:
    """The optimizer of a model: one for each subset of its parameters. `native`: by native kernels."""

    def __init__(self, optimizers: Sequence[EagerOptimizer], native: bool = False) -> None:
        self._optimizers, self._native = optimizers, native
        self._optimizer_of = {p: one for one in optimizers for group in one.param_groups for p in group["params"]}

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for one in self._optimizers for group in one.param_groups]

    def state_of(self, parameter: Tensor) -> dict[str, Any]:
        """The optimizer state of a parameter (mutable): empty before its first step."""
        state: dict[str, Any] = self._optimizer_of[parameter].state[parameter]
        return state

    def moments_of(self, parameter: Tensor) -> tuple[str, ...]:
        """The names of the state tensors of a parameter."""
        return self._optimizer_of[parameter].MOMENTS

    def counts_steps(self, parameter: Tensor) -> bool:
        """Whether the state of a parameter has a scalar `step`."""
        return self._optimizer_of[parameter].COUNTS_STEPS

    def set_learning_rate(self, rate: float) -> None:
        """Set the learning rate of the next step; groups with a `rate_factor` get that fraction of it."""
        for group in self.param_groups:
            group["lr"] = rate * group.get("rate_factor", 1.0)

    def gradient_norm(self) -> Tensor:
        """The total norm of the gradients, a scalar."""
        if self._native:
            return torch.tensor(optimizer_steps.norm(self._gradients()))
        norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(self._gradients())))
        return norm

    def step(self, gradient_scale: float = 1.0) -> None:
        """Update the parameters with their gradients times `gradient_scale`."""
        if gradient_scale != 1 and not self._native:  # native kernels multiply on their way
            torch._foreach_mul_(self._gradients(), gradient_scale)
        for one in self._optimizers:
            one.gradient_scale = gradient_scale if self._native else 1.0
            one.step()

    def clip_gradients(self, limit: float, norm: Tensor) -> None:
        """Scale the gradients so that their `norm` is at most `limit`."""
        torch.nn.utils.clip_grads_with_norm_(list(self._optimizer_of), limit, norm)

    def _gradients(self) -> list[Tensor]:
        return [p.grad for p in self._optimizer_of if p.grad is not None]

    def zero_grad(self) -> None:
        for parameter in self._optimizer_of:
            parameter.grad = None


def make_optimizer(
    model: Model,
    name: OptimizerName,
    learning_rate: float,
    weight_decay: float,
    dtype: torch.dtype = torch.float32,
    native: bool = False,
) -> Optimizer:
    """Create the optimizer `name` for `model`.

    Matrix products are computed in `dtype`, by `native` kernels if true. If the optimizer is for the matrices inside the blocks
    only, AdamW updates the other parameters (embeddings and vectors) at a lower rate, without weight decay.
    """
    named = dict(model.named_parameters())
    own = named
    if OPTIMIZERS[name].block_matrices_only:
        prefix = architecture_of(model.config).muon_matrices
        own = {key: p for key, p in named.items() if p.dim() == 2 and key.startswith(prefix)} if prefix else {}
    rest = {key: p for key, p in named.items() if key not in own}
    made: list[EagerOptimizer] = []
    heads = model.config.n_head
    if rest:
        made.append(AdamW.for_parameters(rest, heads, learning_rate, 0.0 if own else weight_decay, dtype, native))
        for group in made[0].param_groups if own else ():
            group["rate_factor"] = _BESIDE_MUON
    if own:
        made.append(CLASSES[name].for_parameters(own, heads, learning_rate, weight_decay, dtype, native))
    optimizer = Optimizer(made, native)
    optimizer.set_learning_rate(learning_rate)
    return optimizer


def moments(model: Model, optimizer: Optimizer) -> dict[str, Tensor]:
    """The optimizer state: `<moment>.<parameter>` of the parameter's shape, and for AdamW a scalar `steps.<parameter>`."""
    state: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        held = optimizer.state_of(parameter)
        state |= {f"{moment}.{name}": held[moment] for moment in sorted(_MOMENTS) if moment in held}
        if "step" in held:
            state[f"steps.{name}"] = held["step"]
    return state


def restore_moments(
    model: Model, optimizer: Optimizer, state: dict[str, Tensor], process_group: ProcessGroup = SINGLE_PROCESS
) -> None:
    """Restore the state returned by `moments`. With several processes, only the main process needs `state`.

    A parameter whose optimizer has changed starts with a new state. Raises KeyError or ValueError if `state` belongs to a
    different model.
    """
    expected = {f"{moment}.{name}" for moment in (*_MOMENTS, "steps") for name, _ in model.named_parameters()}
    if state.keys() - expected:
        raise ValueError(f"{sorted(state.keys() - expected)[0]} is not optimizer state of this model")
    restorable: dict[str, Tensor | None] = {}  # parameters with a stored state; the value is AdamW's step count
    for name, parameter in model.named_parameters():
        wanted = optimizer.moments_of(parameter)
        if not any(f"{moment}.{name}" in state for moment in wanted):
            continue
        restorable[name] = state[f"steps.{name}"] if optimizer.counts_steps(parameter) else None
        for moment in wanted:
            if (shape := state[f"{moment}.{name}"].shape) != parameter.shape:
                raise ValueError(f"{moment}.{name} has shape {tuple(shape)}, not {tuple(parameter.shape)}")
    for name, steps in process_group.broadcast(restorable).items():
        parameter = model.get_parameter(name)
        held = optimizer.state_of(parameter)
        if steps is not None:  # fused AdamW needs it on the parameter's device
            held["step"] = steps.to(parameter.device)
        for moment in optimizer.moments_of(parameter):
            held[moment] = broadcast_like(state.get(f"{moment}.{name}"), parameter, process_group)
