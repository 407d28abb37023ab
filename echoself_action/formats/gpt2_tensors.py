"""GPT-2's tensors in whatever file: told by their names, and held to their shapes.

nn.Linear keeps a matrix as (out, in): nanoGPT and most trainers. GPT-2's own files, and transformers, keep (in, out).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar, cast

from ..checkpoint import gpt2_config
from ..checkpoint.arrays import Array
from ..checkpoint.gpt2_config import TOKENS
from ..model.config import GPT2Config
from .imported_model import check_weights, tie
from .registry import deferred
from .torch_file.reader import TorchFile

if TYPE_CHECKING:
    from torch import Tensor

_Numbers = TypeVar("_Numbers", Array, "Tensor")
_TURNED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
_BUFFERS = (".attn.bias", ".attn.masked_bias")  # the causal mask, where PyTorch had no flash attention


def turned(tensors: Mapping[str, _Numbers]) -> dict[str, _Numbers]:
    """Views in the other orientation: of weights or of AdamW's moments, from nn.Linear's to GPT-2's or back."""
    return {name: tensor.T if name.endswith(_TURNED) and tensor.ndim == 2 else tensor for name, tensor in tensors.items()}


def gpt2_names(foreign: TorchFile) -> dict[str, Array]:
    """The tensors under GPT-2's full names, without mask buffers; some writers leave the `transformer.` out."""
    found: dict[str, Array] = {}
    for name, tensor in foreign.weights.items():
        if name.endswith(_BUFFERS):
            continue
        full = name if name.startswith(("transformer.", "lm_head.")) else f"transformer.{name}"
        if full in found:
            foreign.refuse(f"has two tensors {full[:100]}")
        found[full] = tensor
    return found


def is_turned(foreign: TorchFile, stored: Mapping[str, Array]) -> bool:
    """Whether the matrices lie as nn.Linear keeps them, by the one whose shape tells: c_attn, width by three widths."""
    name = "transformer.h.0.attn.c_attn.weight"
    shape: tuple[int, ...] = stored[name].shape if name in stored else ()
    if len(shape) == 2 and shape[0] == 3 * shape[1]:
        return True
    if len(shape) != 2 or shape[1] != 3 * shape[0]:
        foreign.refuse(f"has {name} of the shape {shape}, and GPT-2's is a width by three" if shape else f"has no {name}")
    return False


def shapes(config: GPT2Config) -> dict[str, tuple[int, ...]]:
    """The parameters in the order of nanoGPT's `named_parameters`, the tied head left out, as nn.Linear keeps them."""
    return {name: shape[::-1] if name.endswith(_TURNED) else shape for name, shape in gpt2_config.shapes(config).items()}


def checked(foreign: TorchFile, config: GPT2Config, linear: bool, where: str) -> dict[str, Array]:
    """The parameters in the order of `shapes`, each of its shape, and of finite floating-point numbers.

    `where` is what says the sizes. Raises CheckpointError where a tensor is missing, another one, or no number.
    """
    stored = gpt2_names(foreign)
    tie(foreign, stored, TOKENS)
    return check_weights(foreign, stored, shapes(config) if linear else gpt2_config.shapes(config), where)


def logits(config: GPT2Config, weights: Mapping[str, Array], linear: bool, ids: "Tensor") -> "Tensor":
    """The writer's arithmetic on the writer's tensors, in fp32: (batch, length) -> (batch, length, vocab_size)."""
    return cast("Tensor", deferred(".reference_logits", "gpt2_logits")(config, weights, linear, ids))
