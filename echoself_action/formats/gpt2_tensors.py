"""GPT-2's tensors in a checkpoint: their names, their shapes, and the orientation of the matrices.

nn.Linear, and with it nanoGPT and most trainers, stores a matrix as (out, in). OpenAI's GPT-2 and transformers (Conv1D) store
(in, out).
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar, cast

from ..checkpoint import gpt2_config
from ..checkpoint.arrays import Array
from ..checkpoint.gpt2_config import POSITIONS, TOKENS
from ..model.config import GPT2Config
from .imported_model import TensorSource, check_weights, tie
from .registry import deferred
from .torch_file.reader import TorchFile

if TYPE_CHECKING:
    from torch import Tensor

_BLOCK = re.compile(r"transformer\.h\.(\d{1,6})\.")
_OTHER_MODEL = "Only GPT-2 models can be imported, with learned embeddings of tokens and of positions."
_WHOLE = "Save all blocks in one file: the shards of a model are read only as a folder that transformers wrote."
_Numbers = TypeVar("_Numbers", Array, "Tensor")
_TRANSPOSED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
BUFFERS = (".attn.bias", ".attn.masked_bias")  # the causal mask, for versions of PyTorch without flash attention


def transposed(tensors: Mapping[str, _Numbers]) -> dict[str, _Numbers]:
    """Views in the other orientation, of weights or of AdamW's moments: from nn.Linear's to GPT-2's or back."""
    return {name: tensor.T if name.endswith(_TRANSPOSED) and tensor.ndim == 2 else tensor for name, tensor in tensors.items()}


def tensors_by_gpt2_name(file: TensorSource) -> dict[str, Array]:
    """The tensors by GPT-2's full names, without mask buffers. Some programs omit the prefix `transformer.`."""
    found: dict[str, Array] = {}
    for name, tensor in file.weights.items():
        if name.endswith(BUFFERS):
            continue
        full = name if name.startswith(("transformer.", "lm_head.")) else f"transformer.{name}"
        if full in found:
            file.refuse(
                f"has two tensors named {full[:100]}", "Save the model once, with or without `transformer.` in its names."
            )
        found[full] = tensor
    return found


def inferred_sizes(file: TensorSource, stored: Mapping[str, Array]) -> dict[str, int]:
    """The sizes, from the shapes of the tensors."""
    tokens, positions = stored.get(TOKENS, stored.get("lm_head.weight")), stored.get(POSITIONS)
    if tokens is None or positions is None or tokens.ndim != 2 or positions.ndim != 2:
        file.refuse(f"has no two-dimensional {TOKENS} or {POSITIONS}, which every GPT-2 has", _OTHER_MODEL)
    layers = {int(match[1]) for match in map(_BLOCK.match, stored) if match}
    if layers != set(range(len(layers))):
        file.refuse(f"has tensors of the blocks {sorted(layers)[:20]}: the blocks between them are missing", _WHOLE)
    return {
        "n_layer": len(layers),
        "n_embd": tokens.shape[1],
        "block_size": positions.shape[0],
        "vocab_size": tokens.shape[0],
    }


def stored_as_linear(file: TorchFile, stored: Mapping[str, Array]) -> bool:
    """Whether matrices are stored as (out, in), as in nn.Linear, by the shape of c_attn, which is not square."""
    name = "transformer.h.0.attn.c_attn.weight"
    shape: tuple[int, ...] = stored[name].shape if name in stored else ()
    if len(shape) == 2 and shape[0] == 3 * shape[1]:
        return True
    if len(shape) != 2 or shape[1] != 3 * shape[0]:
        file.refuse(
            f"has {name} of shape {shape}, expected (n_embd, 3 * n_embd) or its transpose" if shape else f"has no {name}",
            "Only a GPT-2 whose queries, keys and values are one matrix of equal thirds can be imported.",
        )
    return False


def shapes(config: GPT2Config) -> dict[str, tuple[int, ...]]:
    """The shapes of the parameters as in nn.Linear, in the order of nanoGPT's `named_parameters`, without the tied head."""
    return {name: shape[::-1] if name.endswith(_TRANSPOSED) else shape for name, shape in gpt2_config.shapes(config).items()}


def gpt2_weights(file: TorchFile, config: GPT2Config, linear: bool, against: str) -> dict[str, Array]:
    """The parameters in the order of `shapes`, checked: each has its shape and finite floating-point values.

    `against` names the source of the sizes, for messages. Raises CheckpointError if a tensor is missing, unexpected or invalid.
    """
    stored = tensors_by_gpt2_name(file)
    tie(file, stored, TOKENS)
    return check_weights(file, stored, shapes(config) if linear else gpt2_config.shapes(config), against)


def logits(config: GPT2Config, weights: Mapping[str, Array], linear: bool, ids: "Tensor") -> "Tensor":
    """The original program's logits from its own tensors, in fp32: (batch, length) -> (batch, length, vocab_size)."""
    return cast("Tensor", deferred(".reference_logits", "gpt2_logits")(config, weights, linear, ids))
