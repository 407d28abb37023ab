"""The model folder: what transformers calls a pretrained directory, and the one shape that every part here exchanges.

Reading checks before anything is believed: the files that must be there, a config that this architecture can express, and
every tensor's name and shape against that config.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import CheckpointError
from ..model.gpt2 import GPT2, GPT2Config
from .metadata import Metadata, read_metadata
from .tensors import save_tensors

CONFIG_FILE, GENERATION_FILE, WEIGHTS_FILE = "config.json", "generation_config.json", "model.safetensors"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
TRAINING_STATE = "training_state"

# What GPT2Config of transformers may say that changes the arithmetic, and the one value that ours has.
_FIXED = {
    "model_type": "gpt2",
    "tie_word_embeddings": True,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
}


@dataclass(frozen=True)
class ModelFolder:
    """A checked model folder. `metadata` is None where the folder was not made by us."""

    path: Path
    config: GPT2Config
    metadata: Metadata | None

    @property
    def step(self) -> int:
        """Optimizer steps behind the weights; 0 where nobody says."""
        return self.metadata.step if self.metadata else 0

    @property
    def has_training_state(self) -> bool:
        return (self.path / TRAINING_STATE).is_dir()

    def load_model(self) -> GPT2:
        """The model in fp32, on the CPU."""
        model = GPT2(self.config)
        with safe_open(self.path / WEIGHTS_FILE, "pt") as file:
            stored = _stored_names(file.keys())
            state = {name: file.get_tensor(key).float() for name, key in stored.items() if name != "lm_head.weight"}
        spare = [name for name in state if name not in model.state_dict()]  # biases, where the config says bias: false
        if any(state.pop(name).any() for name in spare):
            raise CheckpointError(f"{self.path} has biases that are not zero, and its config says bias: false.")
        model.load_state_dict(state)
        return model


def write_model(
    folder: Path,
    model_config: GPT2Config,
    weights: Mapping[str, Tensor],
    end_of_text_id: int | None,
    release: Callable[[], None] = lambda: None,
) -> str:
    """Write config.json, generation_config.json and model.safetensors into `folder`; returns the weights' sha256.

    `weights` is a state dict of `GPT2`. A model without biases gets zeros, because a stock GPT-2 has them. `end_of_text_id`
    None: the vocabulary has no such token. `release` is called after each tensor.
    """
    config = _transformers_config(model_config, end_of_text_id)
    _write_json(folder / CONFIG_FILE, config)
    _write_json(
        folder / GENERATION_FILE,
        {key: config[key] for key in ("bos_token_id", "eos_token_id")} | {"do_sample": True, "_from_model_config": True},
    )
    tensors = dict(weights)
    for name, tensor in weights.items():
        if name.endswith(".weight") and name not in ("transformer.wte.weight", "transformer.wpe.weight"):
            tensors.setdefault(name.removesuffix("weight") + "bias", torch.zeros(tensor.shape[-1]))
    digest = hashlib.sha256()
    save_tensors(folder / WEIGHTS_FILE, tensors, {"format": "pt"}, release, digest.update)
    return digest.hexdigest()


def read_model_folder(path: Path) -> ModelFolder:
    """Check the model folder at `path`, reading no weights but their names and shapes.

    Raises CheckpointError, naming everything that is missing or contradicts the config.
    """
    if not path.is_dir():
        raise CheckpointError(f"There is no model folder at {path}.", "Give the path of a folder with config.json in it.")
    missing = [name for name in (CONFIG_FILE, WEIGHTS_FILE, *TOKENIZER_FILES) if not (path / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{path} is no whole model folder: {', '.join(missing)} missing. It was not used.",
            "A model folder has config.json, model.safetensors, tokenizer.json and tokenizer_config.json.",
        )
    config = _read_config(path / CONFIG_FILE)
    _check_shapes(path / WEIGHTS_FILE, config)
    return ModelFolder(path, config, read_metadata(path))


def check_weights(folder: ModelFolder) -> None:
    """Compare the weights with the sha256 in the folder's metadata, where it has one. Raises CheckpointError."""
    if folder.metadata and (found := sha256(folder.path / WEIGHTS_FILE)) != folder.metadata.weights_sha256:
        raise CheckpointError(
            f"{folder.path / WEIGHTS_FILE} is damaged: its sha256 is {found}, and the folder's metadata says "
            f"{folder.metadata.weights_sha256}. It was not used.",
            "Use another checkpoint, or pull the model again.",
        )


def sha256(path: Path) -> str:
    """The sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _transformers_config(config: GPT2Config, end_of_text_id: int | None) -> dict[str, Any]:
    """The config.json of transformers' GPT2LMHeadModel. `bias` is ours: whether training touches biases at all."""
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
        "n_embd": config.n_embd,
        "n_head": config.n_head,
        "n_inner": None,
        "n_layer": config.n_layer,
        "n_positions": config.block_size,
        "use_cache": True,
        "vocab_size": config.vocab_size,
    }


def _read_config(path: Path) -> GPT2Config:
    try:
        values = json.loads(path.read_bytes())
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
        raise CheckpointError(f"{path} is no GPT-2 config: {error!r}. The folder was not used.") from error
    odd = [f"{key}={values[key]!r}" for key, ours in _FIXED.items() if values.get(key, ours) != ours]
    if config.activation not in ("gelu_new", "gelu"):
        odd.append(f"activation_function={config.activation!r}")
    if values.get("n_inner") not in (None, 4 * config.n_embd):
        odd.append(f"n_inner={values['n_inner']}")
    if min(config.n_head, config.n_layer, config.n_embd, config.block_size, config.vocab_size) < 1:
        odd.append("a size below 1")
    elif config.n_embd % config.n_head:
        odd.append(f"n_embd={config.n_embd} not divisible by n_head={config.n_head}")
    if odd:
        raise CheckpointError(
            f"{path} describes a model that this architecture can't compute exactly: {', '.join(odd)}. It was not used.",
            "Only stock GPT-2 models can be trained and published.",
        )
    return config


def _check_shapes(path: Path, config: GPT2Config) -> None:
    with torch.device("meta"):
        expected = {name: list(tensor.shape) for name, tensor in GPT2(config).state_dict().items()}
    try:
        with safe_open(path, "pt") as file:
            stored = _stored_names(file.keys())
            shapes = {name: file.get_slice(key).get_shape() for name, key in stored.items()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} can't be read: {error}. It was not used.", "The file is damaged.") from error
    head = shapes.pop("lm_head.weight", None)  # the head is tied: a second copy adds nothing, but must fit
    problems = [f"{name} is missing" for name in expected if name not in shapes]
    problems += [
        f"{name} has shape {shapes[name]}, the config says {shape}"
        for name, shape in expected.items()
        if shapes.get(name, shape) != shape
    ]
    if head and head != expected["transformer.wte.weight"]:
        problems.append(f"lm_head.weight has shape {head}, the config says {expected['transformer.wte.weight']}")
    biases = () if config.bias else [name for name in shapes if name.endswith(".bias")]
    problems += [f"{name} is not a tensor of GPT-2" for name in shapes if name not in expected and name not in biases]
    if problems:
        shown = "; ".join(problems[:8]) + (f"; and {len(problems) - 8} more" if len(problems) > 8 else "")
        raise CheckpointError(f"{path} does not fit its config.json: {shown}. It was not used.")


def _stored_names(keys: list[str]) -> dict[str, str]:
    """Our name of each tensor in a file -> its name there. Older files lack the prefix and hold mask buffers."""
    names = {}
    for key in keys:
        if key.endswith((".attn.bias", ".attn.masked_bias")):
            continue  # the causal mask, not a weight
        names[key if key.startswith(("transformer.", "lm_head.")) else f"transformer.{key}"] = key
    return names


def _write_json(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8")
