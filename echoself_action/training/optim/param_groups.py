"""What takes the steps: AdamW (Loshchilov & Hutter 2019) with GPT-2's decay groups, or Muon for the matrices inside the blocks
and AdamW for the rest; and its state by parameter name."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...checkpoint.architectures import architecture_of
from ...model import Model
from ..distributed.process_group import SINGLE_PROCESS, ProcessGroup
from ..distributed.sharding import placed_like
from .adamw import AdamW, PlainOptimizer
from .muon import Muon
from .optimizers import OPTIMIZERS, OptimizerName

CLASSES: Mapping[OptimizerName, type[PlainOptimizer]] = {"muon": Muon, "adamw": AdamW}
_KINDS = {kind for one in CLASSES.values() for kind in one.MOMENTS}


class Part:
    """Some of a model's parameters, with the optimizers that take their steps."""

    def __init__(self, *optimizers: PlainOptimizer) -> None:
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
        """The names of the tensors that are kept for it."""
        return self._optimizer_of[parameter].MOMENTS

    def counts_steps(self, parameter: Tensor) -> bool:
        """Whether a scalar `step` is kept for it, too."""
        return self._optimizer_of[parameter].COUNTS_STEPS

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
    """The optimizer `name` for `model`. Products are computed in `dtype`, by `native` kernels if true; the parameters are
    divided into `parts` that take about equally long.

    If it is for matrices inside the blocks only, AdamW updates the other parameters, which are embeddings and vectors, without
    weight decay.
    """
    named = dict(model.named_parameters())
    own = named
    if OPTIMIZERS[name].block_matrices_only:
        prefix = architecture_of(model.config).muon_matrices
        own = {key: p for key, p in named.items() if p.dim() == 2 and key.startswith(prefix)} if prefix else {}
    rest = {key: p for key, p in named.items() if key not in own}
    optimizers: list[list[PlainOptimizer]] = [[] for _ in range(parts)]
    for cls, parameters, decay in ((AdamW, rest, 0.0 if own else weight_decay), (CLASSES[name], own, weight_decay)):
        if parameters:
            for part, dealt in zip(optimizers, _dealt(parameters, parts), strict=True):
                part.append(cls.for_parameters(dealt, learning_rate, decay, dtype, native))
    return Optimizer(*(Part(*part) for part in optimizers))


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
        state |= {f"{moment}.{name}": held[moment] for moment in sorted(_KINDS) if moment in held}
        if "step" in held:
            state[f"steps.{name}"] = held["step"]
    return state


def restore_moments(
    model: Model, optimizer: Optimizer, state: dict[str, Tensor], process_group: ProcessGroup = SINGLE_PROCESS
) -> None:
    """Put back what `moments` gave; of several processes the main process has it.

    Where that was another optimizer, a parameter that is now left to another part of it starts anew. Raises KeyError or
    ValueError where it is of another model.
    """
    expected = {f"{kind}.{name}" for kind in (*_KINDS, "steps") for name, _ in model.named_parameters()}
    if state.keys() - expected:
        raise ValueError(f"{sorted(state.keys() - expected)[0]} is not optimizer state of this model")
    having: dict[str, Tensor | None] = {}  # with AdamW's steps; those that have had no gradient yet have none
    for name, parameter in model.named_parameters():
        wanted = optimizer.moments_of(parameter)
        if not any(f"{moment}.{name}" in state for moment in wanted):
            continue
        having[name] = state[f"steps.{name}"] if optimizer.counts_steps(parameter) else None
        for moment in wanted:
            if (found := state[f"{moment}.{name}"].shape) != parameter.shape:
                raise ValueError(f"{moment}.{name} has shape {tuple(found)}, not {tuple(parameter.shape)}")
    for name, steps in process_group.broadcast(having).items():
        parameter = model.get_parameter(name)
        held = optimizer.state_of(parameter)
        if steps is not None:  # fused AdamW counts its steps on the device of the parameter
            held["step"] = steps.to(parameter.device)
        for moment in optimizer.moments_of(parameter):
            held[moment] = placed_like(state.get(f"{moment}.{name}"), parameter, process_group)
