"""GPT-2's arithmetic, as the writer of a file computes it, on the writer's own tensors.

It is what a converted model is held to, so it shares nothing with our own.
"""

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..checkpoint.arrays import BFLOAT16, Array
from ..checkpoint.gpt2_config import POSITIONS, TOKENS
from ..model.config import GPT2Config


def as_tensors(arrays: Mapping[str, Array]) -> dict[str, Tensor]:
    """PyTorch's tensors of the same memory. `arrays` are of whole, or floating-point, numbers."""
    bits = {name: array["bfloat16"].view(np.int16) for name, array in arrays.items() if array.dtype == BFLOAT16}
    return {
        name: torch.from_numpy(bits[name]).view(torch.bfloat16) if name in bits else torch.from_numpy(array)
        for name, array in arrays.items()
    }


@torch.no_grad()
def gpt2_logits(config: GPT2Config, arrays: Mapping[str, Array], linear: bool, ids: Tensor) -> Tensor:
    """Logits (batch, length, vocab_size) for ids (batch, length), in fp32. `linear`: matrices lie as nn.Linear keeps them."""

    weights = as_tensors(arrays)

    def affine(x: Tensor, name: str) -> Tensor:
        weight, bias = weights[f"{name}.weight"].float(), weights.get(f"{name}.bias")
        return F.linear(x, weight if linear else weight.t(), None if bias is None else bias.float())

    def norm(x: Tensor, name: str) -> Tensor:
        scale, bias = weights[f"{name}.weight"].float(), weights.get(f"{name}.bias")
        return F.layer_norm(x, scale.shape, scale, None if bias is None else bias.float(), config.layer_norm_epsilon)

    tokens = weights[TOKENS].float()
    approximate = "tanh" if config.activation == "gelu_new" else "none"
    x = tokens[ids] + weights[POSITIONS][: ids.shape[1]].float()
    for i in range(config.n_layer):
        block = f"transformer.h.{i}"
        heads = affine(norm(x, f"{block}.ln_1"), f"{block}.attn.c_attn").chunk(3, dim=2)
        query, key, value = (part.view(*ids.shape, config.n_head, -1).transpose(1, 2) for part in heads)
        y = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + affine(y.transpose(1, 2).flatten(2), f"{block}.attn.c_proj")
        inner = affine(norm(x, f"{block}.ln_2"), f"{block}.mlp.c_fc")
        x = x + affine(F.gelu(inner, approximate=approximate), f"{block}.mlp.c_proj")
    return F.linear(norm(x, "transformer.ln_f"), tokens)
