"""Loads and writes the weights of a model folder."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import safe_open

from ..errors import CheckpointError
from ..model import Model, ModelConfig
from .architectures import architecture_of
from .arrays import Array
from .model_folder import (
    CONFIG_FILE,
    GENERATION_FILE,
    WEIGHTS_FILE,
    ModelFolder,
    write_json,
)
from .safetensors_writer import save_tensors

if TYPE_CHECKING:
    from torch import Tensor


def new_model(config: ModelConfig) -> Model:
    """A model of this configuration; its weights are not initialised."""
    return architecture_of(config).new_model(config)


def load_model(folder: ModelFolder) -> Model:
    """The model in fp32, on the CPU. Raises CheckpointError if the file has nonzero biases of a model without biases."""
    model = new_model(folder.config)
    names = model.state_dict().keys()
    with safe_open(folder.path / WEIGHTS_FILE, "pt") as file:
        architecture = folder.architecture.config
        stored = architecture.stored_names(file.keys())
        state = {name: file.get_tensor(key).float() for name, key in stored.items() if name not in architecture.TIED}
    unused = [name for name in state if name not in names]  # biases of a model with bias: false
    if any(state.pop(name).any() for name in unused):
        raise CheckpointError(
            f"{folder.path} has biases that are not zero, but its config.json has bias: false. It was not used."
        )
    model.load_state_dict(state)
    return model


def new_tokens_by_default(block_size: int) -> int:
    """The number of tokens that transformers generates from a published model, unless its caller passes another one.

    As many as its pipeline does for other models, but at most half of the context: the prompt needs the other half.
    """
    return max(1, min(256, block_size // 2))


def write_model(
    folder: Path,
    model_config: ModelConfig,
    weights: Mapping[str, "Array | Tensor"],
    end_of_text_id: int | None,
    release: Callable[[], None] = lambda: None,
) -> str:
    """Write config.json, generation_config.json, model.safetensors and any code files; return the sha256 of the weights.

    `weights` is a state dict of the model. `end_of_text_id` is None if the tokenizer has no such token. `release` is called
    after each piece of a tensor.
    """
    architecture = architecture_of(model_config)
    config = architecture.config.write_config(model_config, end_of_text_id)
    write_json(folder / CONFIG_FILE, config)
    special = {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    # transformers' pipeline generates 256 tokens by default, which a shorter context does not have
    write_json(
        folder / GENERATION_FILE,
        special | {"do_sample": True, "max_new_tokens": new_tokens_by_default(model_config.block_size)},
    )
    for name, code in architecture.remote_code().items():
        (folder / name).write_bytes(code)
    digest = hashlib.sha256()
    save_tensors(
        folder / WEIGHTS_FILE,
        architecture.config.stored_tensors(model_config, weights),
        {"format": "pt"},
        release,
        digest.update,
    )
    return digest.hexdigest()
