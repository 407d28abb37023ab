"""What takes the steps: AdamW (Loshchilov & Hutter 2019) with GPT-2's decay groups, or Muon for the matrices inside the blocks
and AdamW for the rest; and its state by parameter name."""

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from ...checkpoint.architectures import architecture_of
from ...model import Model
from ..distributed.process_group import ALONE, Team
from ..distributed.sharding import placed_like
from ..settings import OptimizerName
from .adamw import AdamW
from .muon import Muon

BETAS = (0.9, 0.95)
MOMENTS = ("exp_avg", "exp_avg_sq")  # of AdamW, beside its count of steps
MOMENTUM = "momentum"  # of Muon, which has nothing else
_SIDE_BY_SIDE = {"c_attn": 3}  # queries, keys and values


class Part:
    """Some of a model's parameters, with the optimizers that take their steps."""

    def __init__(self, *optimizers: torch.optim.Optimizer) -> None:
        self.optimizers = optimizers
        self.parameters: list[Tensor] = [p for one in optimizers for group in one.param_groups for p in group["params"]]

    def gradient_norm(self) -> Tensor:
        """The norm of all gradients together, a scalar."""
        norms = torch._foreach_norm([p.grad for p in self.parameters if p.grad is not None])
        norm: Tensor = torch.linalg.vector_norm(torch.stack(norms))
        return norm

    def scale_gradients(self, factor: float) -> None:
        torch._foreach_mul_([p.grad for p in self.parameters if p.grad is not None], factor)

    def step(self) -> None:
        for optimizer in self.optimizers:
            optimizer.step()


class Optimizer:
    """The parts of a model, as one."""

    def __init__(self, *parts: Part) -> None:
        self.parts = parts
        self._optimizer_of = {
            p: one for part in parts for one in part.optimizers for group in one.param_groups for p in group["params"]
        }

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for part in self.parts for one in part.optimizers for group in one.param_groups]

    def state_of(self, parameter: Tensor) -> dict[str, Any]:
        """What is kept for a parameter: empty before its first gradient, and it can be filled."""
        state: dict[str, Any] = self._optimizer_of[parameter].state[parameter]
        return state

    def moments_of(self, parameter: Tensor) -> tuple[str, ...]:
        """What is kept for it, by name, beside AdamW's count of steps."""
        return (MOMENTUM,) if isinstance(self._optimizer_of[parameter], Muon) else MOMENTS

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def zero_grad(self) -> None:
        for parameter in self._optimizer_of:
            parameter.grad = None


def make_optimizer(
    model: Model,
    name: OptimizerName,
    learning_rate: float,
    weight_decay: float,
    dtype: torch.dtype = torch.float32,
    parts: int = 1,
    native: bool = False,
) -> Optimizer:
    """Matrices and embeddings decay; biases and layer norms do not. `dtype` is that of products, which are taken by native code
    where that is wanted; the parameters are dealt out to `parts` that take about as long.

    With Muon, embeddings do not decay either: what is left to AdamW then are they and vectors.
    """
    named = dict(model.named_parameters())
    prefix = architecture_of(model.config).muon_matrices if name == "muon" else None
    hidden = {name: p for name, p in named.items() if prefix and p.dim() == 2 and name.startswith(prefix)}
    rest = {name: p for name, p in named.items() if name not in hidden}
    decay = 0.0 if hidden else weight_decay
    optimizers: list[list[torch.optim.Optimizer]]
    optimizers = [[_adamw(dealt.values(), learning_rate, decay)] for dealt in _dealt(rest, parts)]
    if hidden:
        for part, dealt in zip(optimizers, _dealt(hidden, parts), strict=True):
            part.append(_muon(dealt, learning_rate, weight_decay, dtype, native))
    return Optimizer(*(Part(*part) for part in optimizers))


def _adamw(parameters: Collection[Tensor], rate: float, decay: float) -> AdamW:
    matrices, vectors = [p for p in parameters if p.dim() > 1], [p for p in parameters if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]
    return AdamW(groups, lr=rate, betas=BETAS, fused=True)


def _muon(named: Mapping[str, Tensor], rate: float, decay: float, dtype: torch.dtype, native: bool) -> Muon:
    by_count = {
        count: [p for name, p in named.items() if _SIDE_BY_SIDE.get(name.split(".")[-2], 1) == count]
        for count in (1, *_SIDE_BY_SIDE.values())
    }
    return Muon([{"params": params, "side_by_side": count} for count, params in by_count.items()], rate, decay, dtype, native)


def _dealt(named: Mapping[str, Tensor], parts: int) -> list[dict[str, Tensor]]:
    """The parameters as `parts` of about the same size, which have as many of each shape, where that can be."""
    found: list[dict[str, Tensor]] = [{} for _ in range(parts)]
    sizes = [0] * parts
    for name, parameter in sorted(named.items(), key=lambda item: (-item[1].numel(), item[1].shape)):
        least = sizes.index(min(sizes))
        found[least][name] = parameter
        sizes[least] += parameter.numel()
    return found


def moments(model: Model, optimizer: Optimizer) -> dict[str, Tensor]:
    """`<moment>.<parameter name>` -> tensor of the parameter's shape, and `steps.<parameter name>`: AdamW's, a scalar."""
    state: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        held = optimizer.state_of(parameter)
        state |= {f"{moment}.{name}": held[moment] for moment in (*MOMENTS, MOMENTUM) if moment in held}
        if "step" in held:
            state[f"steps.{name}"] = held["step"]
    return state


def restore_moments(model: Model, optimizer: Optimizer, state: dict[str, Tensor], team: Team = ALONE) -> None:
    """Put back what `moments` gave; of several processes the lead has it.

    Where that was another optimizer, a parameter that is now left to another part of it starts anew. Raises KeyError or
    ValueError where it is of another model.
    """
    expected = {f"{kind}.{name}" for kind in (*MOMENTS, MOMENTUM, "steps") for name, _ in model.named_parameters()}
    if state.keys() - expected:
        raise ValueError(f"{sorted(state.keys() - expected)[0]} is no optimizer state of this model")
    having: dict[str, Tensor | None] = {}  # with AdamW's steps; those that have had no gradient yet have none
    for name, parameter in model.named_parameters():
        wanted = optimizer.moments_of(parameter)
        if not any(f"{moment}.{name}" in state for moment in wanted):
            continue
        having[name] = state[f"steps.{name}"] if wanted == MOMENTS else None
        for moment in wanted:
            if (found := state[f"{moment}.{name}"].shape) != parameter.shape:
                raise ValueError(f"{moment}.{name} has shape {tuple(found)}, not {tuple(parameter.shape)}")
    for name, steps in team.from_lead(having).items():
        parameter = model.get_parameter(name)
        held = optimizer.state_of(parameter)
        if steps is not None:  # fused AdamW counts its steps on the device of the parameter
            held["step"] = steps.to(parameter.device)
        for moment in optimizer.moments_of(parameter):
            held[moment] = placed_like(state.get(f"{moment}.{name}"), parameter, team)
