"""The weights of a model folder: into a model, and into the file."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import CheckpointError
from ..model import Model, ModelConfig
from ..model.config import GPT2Config
from .arrays import Array
from .gpt2_config import HEAD, POSITIONS, TOKENS
from .model_folder import (
    CONFIG_FILE,
    GENERATION_FILE,
    WEIGHTS_FILE,
    ModelFolder,
    architecture_of,
    files_of,
    write_json,
)
from .safetensors_writer import save_tensors

if TYPE_CHECKING:
    from torch import Tensor


def new_model(config: ModelConfig) -> Model:
    """The model of this shape, its weights still unset."""
    if isinstance(config, GPT2Config):
        from ..model.gpt2 import GPT2

        return GPT2(config)
    from ..model.nanecho import NanEchoForCausalLM  # loads transformers

    return NanEchoForCausalLM(config)


def load_model(folder: ModelFolder) -> Model:
    """The model in fp32, on the CPU. Raises CheckpointError where the file has weights that the model has no place for."""
    from safetensors import safe_open

    model = new_model(folder.config)
    names = model.state_dict().keys()
    with safe_open(folder.path / WEIGHTS_FILE, "pt") as file:
        stored = files_of(folder.architecture).stored_names(file.keys())
        state = {name: file.get_tensor(key).float() for name, key in stored.items() if name != HEAD}
    spare = [name for name in state if name not in names]  # biases, where the config says bias: false
    if any(state.pop(name).any() for name in spare):
        raise CheckpointError(f"{folder.path} has biases that are not zero, and its config says bias: false.")
    model.load_state_dict(state)
    return model


def write_model(
    folder: Path,
    model_config: ModelConfig,
    weights: Mapping[str, "Array | Tensor"],
    end_of_text_id: int | None,
    release: Callable[[], None] = lambda: None,
) -> str:
    """Write config.json, generation_config.json and model.safetensors into `folder`; returns the weights' sha256.

    `weights` is a state dict of the model. `end_of_text_id` None: the vocabulary has no such token. `release` is called
    after each tensor.
    """
    files = files_of(architecture_of(model_config))
    config = files.write_config(model_config, end_of_text_id)
    write_json(folder / CONFIG_FILE, config)
    write_json(
        folder / GENERATION_FILE,
        {key: config[key] for key in ("bos_token_id", "eos_token_id")} | {"do_sample": True, "_from_model_config": True},
    )
    for name, code in files.REMOTE_CODE.items():
        (folder / name).write_bytes(code)
    digest = hashlib.sha256()
    save_tensors(folder / WEIGHTS_FILE, _completed(model_config, weights), {"format": "pt"}, release, digest.update)
    return digest.hexdigest()


def _completed(config: ModelConfig, weights: Mapping[str, "Array | Tensor"]) -> dict[str, "Array | Tensor"]:
    """The tensors of the file: a GPT-2's with zeros for the biases that the model has not, because a stock GPT-2 has them."""
    tensors = dict(weights)
    if not isinstance(config, GPT2Config):
        return tensors
    for name, tensor in weights.items():
        if name.endswith(".weight") and name not in (TOKENS, POSITIONS):
            tensors.setdefault(name.removesuffix("weight") + "bias", np.zeros(tensor.shape[-1], np.float32))
    return tensors
