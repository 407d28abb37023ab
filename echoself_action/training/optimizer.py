"""AdamW (Loshchilov & Hutter 2019) with GPT-2's decay groups, and its moments by parameter name."""

import torch
from torch import Tensor

from ..model import Model
from .parallel import ALONE, Team
from .sharding import placed_like

BETAS = (0.9, 0.95)
MOMENTS = ("exp_avg", "exp_avg_sq")


def make_optimizer(model: Model, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """Matrices and embeddings decay; biases and layer norms do not."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=BETAS, fused=True)


def moments(model: Model, optimizer: torch.optim.AdamW) -> dict[str, Tensor]:
    """`<moment>.<parameter name>` -> tensor of the parameter's shape, and `steps.<parameter name>`: a scalar."""
    state: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        held = optimizer.state.get(parameter)
        if held:
            state |= {f"{moment}.{name}": held[moment] for moment in MOMENTS}
            state[f"steps.{name}"] = held["step"]
    return state


def restore_moments(model: Model, optimizer: torch.optim.AdamW, state: dict[str, Tensor], team: Team = ALONE) -> None:
    """Put back what `moments` gave; of several processes the lead has it. Raises KeyError or ValueError where it is of
    another model."""
    expected = {f"{kind}.{name}" for kind in (*MOMENTS, "steps") for name, _ in model.named_parameters()}
    if state.keys() - expected:
        raise ValueError(f"{sorted(state.keys() - expected)[0]} is no optimizer state of this model")
    # those that have had no gradient yet have none
    having = [name for name, _ in model.named_parameters() if any(f"{kind}.{name}" in state for kind in (*MOMENTS, "steps"))]
    for name in having:
        shape = model.get_parameter(name).shape
        for moment in MOMENTS:
            if (found := state[f"{moment}.{name}"].shape) != shape:
                raise ValueError(f"{moment}.{name} has shape {tuple(found)}, not {tuple(shape)}")
    steps = team.from_lead({name: state[f"steps.{name}"] for name in having})
    for name, step in steps.items():
        parameter = model.get_parameter(name)
        # fused AdamW counts its steps on the device of the parameter
        optimizer.state[parameter] = {
            "step": step.to(parameter.device),
            **{moment: placed_like(state.get(f"{moment}.{name}"), parameter, team) for moment in MOMENTS},
        }
