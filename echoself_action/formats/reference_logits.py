"""Reference logits of an imported checkpoint: the original program's forward pass, on the tensors as its file stores them.

A converted model is compared with these, so they share no code with `model`.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..checkpoint.arrays import BFLOAT16, Array
from ..checkpoint.gpt2_config import POSITIONS, TOKENS
from ..model.config import GPT2Config

if TYPE_CHECKING:
    from ..model.nanecho import NanEchoConfig  # loads transformers


def as_tensors(arrays: Mapping[str, Array]) -> dict[str, Tensor]:
    """Tensors that share the memory of `arrays`, whose dtypes are integers or floats. Unaligned arrays are copied."""
    arrays = {name: np.require(array, requirements="A") for name, array in arrays.items()}
    bits = {name: array["bfloat16"].view(np.int16) for name, array in arrays.items() if array.dtype == BFLOAT16}
    return {
        name: torch.from_numpy(bits[name]).view(torch.bfloat16) if name in bits else torch.from_numpy(array)
        for name, array in arrays.items()
    }


@torch.no_grad()
def gpt2_logits(config: GPT2Config, arrays: Mapping[str, Array], linear: bool, ids: Tensor) -> Tensor:
    """Logits (batch, length, vocab_size) for ids (batch, length), in fp32. `linear`: matrices are stored as (out, in)."""
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


@torch.no_grad()
def nanecho_logits(config: "NanEchoConfig", weights: Mapping[str, Tensor], ids: Tensor) -> Tensor:
    """Logits (batch, length, vocab_size) for ids (batch, length), in fp32, of the original (nanecho_model.py).

    Without injected patterns.
    """

    def w(name: str) -> Tensor:
        return weights[name].float()

    def linear(x: Tensor, name: str, mask: Tensor | None = None) -> Tensor:
        matrix = w(f"{name}.weight") if mask is None else w(f"{name}.weight") * mask
        return F.linear(x, matrix, weights[f"{name}.bias"].float() if f"{name}.bias" in weights else None)

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], w(f"{name}.weight"), w(f"{name}.bias"))

    def attention(x: Tensor, name: str) -> Tensor:
        batch, length, width = x.shape
        query, key, value = (
            part.view(batch, length, config.n_head, -1).transpose(1, 2) for part in linear(x, f"{name}.qkv").chunk(3, dim=2)
        )
        scores = query @ key.transpose(-2, -1) * (1.0 / math.sqrt(width // config.n_head))
        scores = scores.masked_fill(torch.ones(length, length).tril() == 0, float("-inf"))
        if config.enable_adaptive_attention:
            mean = x.mean(1)
            load = torch.sigmoid(linear(mean, f"{name}.cognitive_load_estimator"))
            base = torch.sigmoid(linear(F.relu(linear(mean, f"{name}.threshold_net.0")), f"{name}.threshold_net.2"))
            low, high = config.attention_threshold_min, config.attention_threshold_max
            threshold = ((low + (high - low) * base) * (1 + load * config.cognitive_load_factor)).clamp(low, high)
            threshold = threshold.view(batch, 1, 1, 1)
            scores = F.softplus(scores - threshold) - F.softplus(-threshold - scores)
        y = (scores.softmax(-1) @ value).transpose(1, 2).reshape(batch, length, width)
        return linear(y, f"{name}.out_proj", w(f"{name}.connection_mask.mask"))

    def persona(x: Tensor, name: str) -> Tensor:
        transform = linear(F.gelu(norm(linear(x, f"{name}.transform.0"), f"{name}.transform.1")), f"{name}.transform.3")
        return x + torch.sigmoid(linear(F.relu(linear(x, f"{name}.gate.0")), f"{name}.gate.2")) * transform

    def recursive(x: Tensor, name: str) -> Tensor:
        progress = min(config.current_iteration / 10000, 1.0)
        depth = int(config.min_recursion_depth + (config.max_recursion_depth - config.min_recursion_depth) * progress)
        mixture = linear(x.mean(1), f"{name}.depth_controller")[:, :depth].softmax(-1)
        total, decay = torch.zeros_like(x), 1.0
        for level in range(depth):
            x = F.gelu(norm(linear(x, f"{name}.recursive_layers.{level}.0"), f"{name}.recursive_layers.{level}.1"))
            total = total + x * decay * mixture[:, level].view(-1, 1, 1)
            decay *= config.recursion_decay
        return total

    def hypergraph(x: Tensor, name: str) -> Tensor:
        nodes = linear(x, f"{name}.node_encoder")
        edges = f"{name}.edge_attention"
        nodes = nodes.transpose(0, 1)
        attended, _ = F.multi_head_attention_forward(
            query=nodes,
            key=nodes,
            value=nodes,
            embed_dim_to_check=x.shape[-1],
            num_heads=4,
            in_proj_weight=w(f"{edges}.in_proj_weight"),
            in_proj_bias=w(f"{edges}.in_proj_bias"),
            bias_k=None,
            bias_v=None,
            add_zero_attn=False,
            dropout_p=0.0,
            out_proj_weight=w(f"{edges}.out_proj.weight"),
            out_proj_bias=w(f"{edges}.out_proj.bias"),
            training=False,
            need_weights=False,
        )
        encoder = f"{name}.pattern_encoder"
        hidden = F.relu(linear(attended.transpose(0, 1), f"{encoder}.0"))
        return norm(linear(hidden, f"{encoder}.2"), f"{encoder}.3")

    x = w("token_embedding.weight")[ids] + w("position_embedding.weight")[: ids.shape[1]]
    for layer in range(config.n_layer):
        block = f"blocks.{layer}"
        x = x + attention(norm(x, f"{block}.ln1"), f"{block}.attn")
        for dimension in (config.persona_dimensions or []) if config.has_persona(layer) else []:
            weight = (config.dimension_weights or {}).get(dimension, 0.125)
            x = x + weight * persona(x, f"{block}.persona_dims.{dimension}")
        if config.has_recursion(layer):
            x = x + 0.5 * recursive(x, f"{block}.recursive")
        if config.has_hypergraph(layer):
            x = x + 0.3 * hypergraph(x, f"{block}.hypergraph")
        mask = w(f"{block}.mlp_connection_mask.mask")
        x = x + linear(F.gelu(linear(norm(x, f"{block}.ln2"), f"{block}.mlp.0", mask)), f"{block}.mlp.2", mask.t())
    return F.linear(norm(x, "ln_f"), w("token_embedding.weight"))
