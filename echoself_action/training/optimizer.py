"""AdamW (Loshchilov & Hutter 2019) with GPT-2's decay groups, and its moments by parameter name."""

import torch
from torch import Tensor

from ..model import Model

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


def restore_moments(model: Model, optimizer: torch.optim.AdamW, state: dict[str, Tensor]) -> None:
    """Put back what `moments` gave. Raises KeyError or ValueError where it is of another model."""
    expected = {f"{kind}.{name}" for kind in (*MOMENTS, "steps") for name, _ in model.named_parameters()}
    if state.keys() - expected:
        raise ValueError(f"{sorted(state.keys() - expected)[0]} is no optimizer state of this model")
    for name, parameter in model.named_parameters():
        if not any(f"{kind}.{name}" in state for kind in (*MOMENTS, "steps")):
            continue  # it has had no gradient yet
        held = {moment: state[f"{moment}.{name}"] for moment in MOMENTS}
        for moment, tensor in held.items():
            if tensor.shape != parameter.shape:
                raise ValueError(f"{moment}.{name} has shape {tuple(tensor.shape)}, not {tuple(parameter.shape)}")
        # fused AdamW counts its steps on the device of the parameter
        optimizer.state[parameter] = {
            "step": state[f"steps.{name}"].to(parameter.device),
            **{moment: tensor.to(parameter.device) for moment, tensor in held.items()},
        }
