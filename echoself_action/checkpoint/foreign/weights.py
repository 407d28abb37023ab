"""GPT-2's tensors in whatever file: told by their names, held to their shapes, and computed with as their writer does.

nn.Linear keeps a matrix as (out, in): nanoGPT and most trainers. GPT-2's own files, and transformers, keep (in, out).
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from ...model.config import GPT2Config
from .. import gpt2_folder
from ..gpt2_folder import POSITIONS, TOKENS
from .checks import check_weights, tie
from .reader import Foreign

_TURNED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
_BUFFERS = (".attn.bias", ".attn.masked_bias")  # the causal mask, where PyTorch had no flash attention


def turned(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Views in the other orientation: of weights or of AdamW's moments, from nn.Linear's to GPT-2's or back."""
    return {name: tensor.t() if name.endswith(_TURNED) else tensor for name, tensor in tensors.items()}


def gpt2_names(foreign: Foreign) -> dict[str, Tensor]:
    """The tensors under GPT-2's full names, without mask buffers; some writers leave the `transformer.` out."""
    found: dict[str, Tensor] = {}
    for name, tensor in foreign.weights.items():
        if name.endswith(_BUFFERS):
            continue
        full = name if name.startswith(("transformer.", "lm_head.")) else f"transformer.{name}"
        if full in found:
            foreign.refuse(f"has two tensors {full[:100]}")
        found[full] = tensor
    return found


def is_turned(foreign: Foreign, stored: Mapping[str, Tensor]) -> bool:
    """Whether the matrices lie as nn.Linear keeps them, by the one whose shape tells: c_attn, width by three widths."""
    name = "transformer.h.0.attn.c_attn.weight"
    shape = tuple(stored[name].shape) if name in stored else ()
    if len(shape) == 2 and shape[0] == 3 * shape[1]:
        return True
    if len(shape) != 2 or shape[1] != 3 * shape[0]:
        foreign.refuse(f"has {name} of the shape {shape}, and GPT-2's is a width by three" if shape else f"has no {name}")
    return False


def shapes(config: GPT2Config) -> dict[str, tuple[int, ...]]:
    """The parameters in the order of nanoGPT's `named_parameters`, the tied head left out, as nn.Linear keeps them."""
    return {name: shape[::-1] if name.endswith(_TURNED) else shape for name, shape in gpt2_folder.shapes(config).items()}


def checked(foreign: Foreign, config: GPT2Config, linear: bool, where: str) -> dict[str, Tensor]:
    """The parameters in the order of `shapes`, each of its shape, and of finite floating-point numbers.

    `where` is what says the sizes. Raises CheckpointError where a tensor is missing, another one, or no number.
    """
    stored = gpt2_names(foreign)
    tie(foreign, stored, TOKENS)
    return check_weights(foreign, stored, shapes(config) if linear else gpt2_folder.shapes(config), where)


@torch.no_grad()
def logits(config: GPT2Config, weights: Mapping[str, Tensor], linear: bool, ids: Tensor) -> Tensor:
    """The writer's arithmetic on the writer's tensors, in fp32: (batch, length) -> (batch, length, vocab_size)."""

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
