"""GPT-2 in a model folder: conversion of transformers' config.json, and the tensors of the weights file."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import CheckpointError
from ..model.config import GPT2Config
from .arrays import Array

if TYPE_CHECKING:
    from torch import Tensor

TOKENS, POSITIONS = "transformer.wte.weight", "transformer.wpe.weight"
HEAD = "lm_head.weight"  # tied to the token embedding; a second copy in the file must have the same shape
TIED: Mapping[str, str] = {HEAD: TOKENS}
LARGEST_SIZE = 1 << 24  # the number of elements of much larger matrices overflows in PyTorch

# Settings of transformers' GPT2Config that change the computation, and the only value that our model supports.
_FIXED = {
    "model_type": "gpt2",
    "tie_word_embeddings": True,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
}
_IMPLEMENTATIONS = (None, "eager", "sdpa")  # attention implementations of PyTorch itself


def new_config(sizes: Mapping[str, Any], options: Mapping[str, Any], max_iters: int) -> GPT2Config:  # noqa: ARG001  # see ConfigModule
    """The configuration of a new model."""
    return GPT2Config(**sizes)


def write_config(config: GPT2Config, end_of_text_id: int | None) -> dict[str, Any]:
    """The config.json of transformers' GPT2LMHeadModel.

    `bias` is an addition of ours: whether the model has biases. `n_ctx` is an older name of `n_positions`, which OpenAI's
    config.json has and llama.cpp's convert_hf_to_gguf.py reads.
    """
    return {
        "architectures": ["GPT2LMHeadModel"],
        **_FIXED,
        "activation_function": config.activation,
        "attn_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "resid_pdrop": config.dropout,
        "bias": config.bias,
        "bos_token_id": end_of_text_id,
        "eos_token_id": end_of_text_id,
        "dtype": "float32",
        "initializer_range": 0.02,
        "layer_norm_epsilon": config.layer_norm_epsilon,
        "n_ctx": config.block_size,
        "n_embd": config.n_embd,
        "n_head": config.n_head,
        "n_inner": None,
        "n_layer": config.n_layer,
        "n_positions": config.block_size,
        "pad_token_id": end_of_text_id,
        "use_cache": True,
        "vocab_size": config.vocab_size,
    }


def read_config(path: Path, values: Mapping[str, Any]) -> GPT2Config:
    """The config of `values`, the config.json at `path`. Raises CheckpointError if our model can't compute it exactly."""
    try:
        config = GPT2Config(
            vocab_size=int(values["vocab_size"]),
            block_size=int(values["n_positions"]),
            n_layer=int(values["n_layer"]),
            n_head=int(values["n_head"]),
            n_embd=int(values["n_embd"]),
            dropout=float(values.get("resid_pdrop", 0.1)),
            bias=bool(values.get("bias", True)),
            activation=values.get("activation_function", "gelu_new"),
            layer_norm_epsilon=float(values.get("layer_norm_epsilon", 1e-5)),
        )
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path} is not a valid GPT-2 config: {error!r}. The folder was not used.") from error
    unsupported = [f"{key}={values[key]!r}" for key, ours in _FIXED.items() if values.get(key, ours) != ours]
    unsupported += other_code(values)
    if config.activation not in ("gelu_new", "gelu"):
        unsupported.append(f"activation_function={config.activation!r}")
    if values.get("n_inner") not in (None, 4 * config.n_embd):
        unsupported.append(f"n_inner={values['n_inner']}")
    sizes = (config.n_head, config.n_layer, config.n_embd, config.block_size, config.vocab_size)
    if not 1 <= min(sizes) <= max(sizes) <= LARGEST_SIZE:
        unsupported.append(f"a size below 1 or above {LARGEST_SIZE:,}")
    elif config.n_embd % config.n_head:
        unsupported.append(f"n_embd={config.n_embd} not divisible by n_head={config.n_head}")
    if unsupported:
        raise CheckpointError(
            f"{path} describes a model that this architecture can't compute exactly: {', '.join(unsupported)}. "
            "It was not used.",
            "Only stock GPT-2 models can be trained and published.",
        )
    return config


def fewest_tensors(config: GPT2Config) -> int:
    """A lower bound of the number of tensors."""
    return config.n_layer


def shapes(config: GPT2Config) -> dict[str, tuple[int, ...]]:
    """The shapes of the model's tensors in the order of its state dict, without the tied head. Matrices are (in, out)."""
    width = config.n_embd
    result: dict[str, tuple[int, ...]] = {TOKENS: (config.vocab_size, width), POSITIONS: (config.block_size, width)}

    def add(name: str, *shape: int) -> None:
        result[f"{name}.weight"] = shape
        if config.bias:
            result[f"{name}.bias"] = shape[-1:]

    for i in range(config.n_layer):
        block = f"transformer.h.{i}"
        add(f"{block}.ln_1", width)
        add(f"{block}.attn.c_attn", width, 3 * width)
        add(f"{block}.attn.c_proj", width, width)
        add(f"{block}.ln_2", width)
        add(f"{block}.mlp.c_fc", width, 4 * width)
        add(f"{block}.mlp.c_proj", 4 * width, width)
    add("transformer.ln_f", width)
    return result


def other_code(values: Mapping[str, Any]) -> list[str]:
    """Settings of a config.json that make transformers download and run a kernel, even without trust_remote_code."""
    return [f"{key}={values[key]!r}" for key in values if "_implementation" in key and values[key] not in _IMPLEMENTATIONS]


def stored_names(keys: Iterable[str]) -> dict[str, str]:
    """Our name of each tensor in a file -> its name there. Older files lack the prefix and contain mask buffers."""
    names = {}
    for key in keys:
        if key.endswith((".attn.bias", ".attn.masked_bias")):
            continue  # the causal mask, not a weight
        names[key if key.startswith(("transformer.", "lm_head.")) else f"transformer.{key}"] = key
    return names


def is_spare(config: GPT2Config, name: str) -> bool:
    """Whether a file may contain this additional tensor: the tied head, or a bias (of zeros) of a model without biases."""
    return name == HEAD or (not config.bias and name.endswith(".bias"))


def stored_tensors(config: GPT2Config, weights: "Mapping[str, Array | Tensor]") -> "dict[str, Array | Tensor]":  # noqa: ARG001
    """The tensors of the file, with zero biases for a model without biases, because transformers' GPT-2 needs them."""
    tensors = dict(weights)
    for name, tensor in weights.items():
        if name.endswith(".weight") and name not in (TOKENS, POSITIONS):
            tensors.setdefault(name.removesuffix("weight") + "bias", np.zeros(tensor.shape[-1], np.float32))
    return tensors


def flops_per_token(config: GPT2Config) -> float:
    """FLOPs of a training step per token."""
    return config.flops_per_token()


def card_text(config: GPT2Config) -> str:  # noqa: ARG001
    """Empty: GPT-2 needs no explanation in a model card."""
    return ""
