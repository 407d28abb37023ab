"""A NanEcho and a batch, to compare native kernels with PyTorch."""

from typing import Any

import torch
from torch import Tensor

from echoself_action.model.nanecho import NanEchoConfig, NanEchoForCausalLM

SIZES: dict[str, Any] = {"vocab_size": 500, "n_embd": 64, "n_head": 2, "n_layer": 4, "block_size": 200, "dropout": 0.0}


def a_model(**changes: Any) -> NanEchoForCausalLM:
    """With weights of a size that matters in every operation, and layer norms and biases that are not 1 and 0."""
    model = NanEchoForCausalLM(NanEchoConfig(**SIZES | {"current_iteration": 6000, "initial_connections": 0.7} | changes))
    model.initialise(1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if p.dim() > 1 and "embedding" not in name:
                p.copy_(noise * p.shape[-1] ** -0.5)
            elif p.dim() == 1:
                p.add_(0.1 * noise)
    return model.train()


def a_batch(length: int = 150, vocabulary: int = 500) -> tuple[Tensor, Tensor]:
    tokens = torch.randint(vocabulary, (2, length + 1), generator=torch.Generator().manual_seed(3))
    return tokens[:, :-1], tokens[:, 1:]
