"""The losses and gradients of a GPT-2 by native kernels, and by PyTorch to compare them with."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from echoself_action.model.gpt2 import GPT2, GPT2Config
from echoself_action.native.gpt2 import NativeGPT2

Drop = Callable[[str, int, Tensor], Tensor]
"""Multiplies a tensor by the factors of dropout, given the place (one of PLACES) and the layer."""
PLACES = ("embedding", "projection", "mlp", "attention")


@dataclass
class Result:
    """Losses (sequences, length), and by parameter name the gradients of their mean."""

    losses: Tensor
    gradients: dict[str, Tensor] = field(default_factory=dict)

    def tensors(self) -> dict[str, Tensor]:
        return {"losses": self.losses, **self.gradients}


def a_model(config: GPT2Config, spread: float = 1.0) -> GPT2:
    """With weights of a size that matters in every operation, and layer norms and biases that are not 1 and 0."""
    model, generator = GPT2(config), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, p in model.named_parameters():
            inputs = p.shape[1] if ".wte." in name or ".wpe." in name else p.shape[0]
            p.normal_(0.0, spread * inputs**-0.5 if p.dim() > 1 else 0.2, generator=generator)
            if ".ln_" in name and name.endswith("weight"):
                p += 1
    return model.train()


def a_batch(config: GPT2Config, sequences: int = 3, length: int = 0) -> tuple[Tensor, Tensor]:
    """Token ids and targets."""
    shape = (sequences, length or config.block_size)
    generator = torch.Generator().manual_seed(2)
    ids, targets = (torch.randint(config.vocab_size, shape, generator=generator) for _ in range(2))
    return ids, targets


def by_native(model: GPT2, ids: Tensor, targets: Tensor, dtype: torch.dtype, seeds: Sequence[int] = ()) -> Result:
    native = NativeGPT2(model, dtype)
    gradients = {name: torch.full_like(p, torch.nan) for name, p in model.named_parameters()}
    seeds = seeds or [0] * len(ids)
    return Result(native.gradients(ids, targets, 1 / ids.numel(), gradients, False, seeds), gradients)


def by_pytorch(
    model: GPT2, ids: Tensor, targets: Tensor, dtype: torch.dtype = torch.float64, drop: Drop | None = None
) -> Result:
    """In float64, or in fp32 with autocast to bfloat16; without dropout, but for `drop`."""
    copy = deepcopy(model).eval()
    copy = copy.double() if dtype is torch.float64 else copy
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
        logits = dropped_logits(copy, ids, drop) if drop else copy.logits(ids)
    floats = logits.float() if dtype is torch.bfloat16 else logits
    losses = F.cross_entropy(floats.flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape)
    named = dict(copy.named_parameters())
    gradients = torch.autograd.grad(losses.mean(), list(named.values()))
    return Result(losses.detach(), dict(zip(named, gradients, strict=True)))


def dropped_logits(model: GPT2, ids: Tensor, drop: Drop) -> Tensor:
    """`model.logits` with `drop` at the places where GPT-2 drops."""
    transformer, (sequences, length) = model.transformer, ids.shape
    hidden = torch.ones(length, length, dtype=torch.bool).triu(1)
    x = drop("embedding", 0, transformer.wte(ids) + transformer.wpe.weight[:length])
    for layer, block in enumerate(transformer.h):
        q, k, v = block.attn.c_attn(block.ln_1(x)).view(sequences, length, 3, model.config.n_head, -1).permute(2, 0, 3, 1, 4)
        scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(hidden, -torch.inf)
        y = drop("attention", layer, scores.softmax(-1)) @ v
        x = x + drop("projection", layer, block.attn.c_proj(y.transpose(1, 2).flatten(2)))
        mlp = block.mlp
        activated = mlp.activation(mlp.c_fc(block.ln_2(x)))
        x = x + drop("mlp", layer, mlp.c_proj(activated))
    return F.linear(transformer.ln_f(x), transformer.wte.weight)


def error(found: Tensor, wanted: Tensor) -> float:
    """The norm of the difference relative to that of `wanted`."""
    return ((found.double() - wanted).norm() / wanted.norm()).item()
