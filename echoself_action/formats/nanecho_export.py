"""Exports a model folder as a training cache of NanEcho (github.com/9cog/echoself, training_cache.py).

Its trainer resumes from the cache, and its runtime loads the one checkpoint in it.
"""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoint.atomic import new_file
from ..checkpoint.model_folder import WEIGHTS_FILE, ModelFolder
from ..checkpoint.nanecho_config import parameters, shapes
from ..checkpoint.weights import load_model
from ..errors import CheckpointError
from ..model.config import GPT2Config
from ..model.nanecho import NanEchoConfig
from ..training.optim.adamw import BETAS
from ..training.training_state import read_spare
from .imported_model import HEAD
from .nanecho import FLAGS, TOKENS, gpt2_name_map, maybe_transposed
from .optimizer_state import MOMENTS
from .registry import Exported
from .torch_file.writer import kept_moments, moments_notes, plain_settings, save_pt

_UNKNOWN_LOSS = 1e9
# The fields that the trainer's checkpoints record, and the other arguments of its NanEchoConfig.
_CONFIG = (
    *("vocab_size", "n_embd", "n_head", "n_layer", "block_size", "dropout", "bias"),
    *("initial_connections", "connection_growth_rate", "max_connections"),
    *("enable_adaptive_attention", *FLAGS, "persona_dimensions", "dimension_weights"),
    *("attention_threshold_min", "attention_threshold_max", "cognitive_load_factor"),
    *("min_recursion_depth", "max_recursion_depth", "recursion_decay", "pattern_injection_rate"),
)


def export(folder: ModelFolder, output_dir: Path) -> Exported:
    """Write `folder` as `nanecho/cache`; see `FormatExporter`."""
    path = export_nanecho(folder, output_dir / "nanecho" / "cache")
    return Exported(path, f"train_cached.py --out_dir={output_dir / 'nanecho'}", moments_notes(kept_moments(folder)))


def export_nanecho(folder: ModelFolder, place: Path) -> Path:
    """Write `folder` as the cache `place`, metadata.json and one checkpoint; returns the path of the checkpoint.

    Raises CheckpointError if NanEcho can't compute this model exactly.
    """
    config, state_dict, moments = _nanecho_state(folder)
    facts = folder.metadata
    settings = plain_settings(folder)
    order = parameters(config)
    train_loss, best = facts.exported_losses if facts else (None, None)
    loss = facts.val_loss if facts and facts.val_loss is not None else best
    model_config = {name: getattr(config, name) for name in _CONFIG}
    data_config = {
        "data_dir": settings.get("data_dir", "data/nanecho"),
        "batch_size": settings.get("batch_size", 8),
        "block_size": config.block_size,
    }
    ratio = next((tensor.item() for name, tensor in state_dict.items() if name.endswith("_current_ratio_tensor")), 1.0)
    written = datetime.fromtimestamp((folder.path / WEIGHTS_FILE).stat().st_mtime, UTC)
    name = f"ckpt_{written:%Y%m%d_%H%M%S}_{folder.step}_{_digest(model_config)}_{_digest(data_config)}"
    both = {
        "iteration": folder.step,
        "epoch": 0,
        "train_loss": train_loss or 0.0,
        "val_loss": _UNKNOWN_LOSS if loss is None else loss,
        "learning_rate": settings.get("learning_rate", 1e-4),
        "model_config": model_config,
        "training_config": settings,
        "data_config": data_config,
        "metrics": {"connection_ratio": ratio},
        "checkpoint_id": name,
    }
    checkpoint = both | {
        "model_state_dict": state_dict,
        "optimizer_state_dict": _optimizer(order, state_dict, moments, settings),
        "scheduler_state_dict": None,
        "timestamp": written.isoformat(),
        "format": "nanecho-pytorch-v1",
        "connection_ratio": ratio,
        "current_iteration": config.current_iteration,
        "tokenizer": _tokenizer(folder),
    }
    path = place / "checkpoints" / f"{name}.pt"
    entry = both | {
        "created_at": written.isoformat(),
        "tags": ["nanecho"],
        "parent_checkpoint": None,
        "notes": f"Exported at step {folder.step}",
        "quality_score": 0.7 / (1 + both["val_loss"]) + 0.3 * ratio,
    }
    save_pt(checkpoint, path)
    entry["file_size_mb"] = path.stat().st_size / (1 << 20)
    index = place / "metadata.json"
    try:
        with new_file(index) as file:
            file.write(json.dumps({name: entry}, indent=2).encode())
    except OSError as error:
        raise CheckpointError(f"{index} could not be written: {error}.", "Free disk space.") from error
    return path


def _nanecho_state(folder: ModelFolder) -> tuple[NanEchoConfig, dict[str, Tensor], dict[str, Tensor]]:
    """The config, the state dict and the optimizer's moments under NanEcho's names."""
    ours, weights, moments = folder.config, load_model(folder).state_dict(), kept_moments(folder)
    if isinstance(ours, GPT2Config):
        if ours.activation != "gelu" or ours.layer_norm_epsilon != 1e-5:
            raise _inexact(folder, f"its activation is {ours.activation} and its layer norm epsilon {ours.layer_norm_epsilon}")
        sizes: dict[str, Any] = {
            name: getattr(ours, name) for name in ("vocab_size", "block_size", "n_layer", "n_head", "n_embd", "dropout")
        }
        sizes |= dict.fromkeys(("enable_adaptive_attention", *FLAGS), False)
        names = [place for place in gpt2_name_map(ours) if place[1] in weights]
        # a stock GPT-2 always has biases, which are all zero if it was converted from a model without them
        linear = [weights[gpt2] for name, gpt2, _ in names if name.endswith(".bias") and "ln" not in name]
        bias = any(bool(tensor.any()) for tensor in linear)
        config = NanEchoConfig(**sizes, bias=bias, legacy=True, current_iteration=folder.step, initial_connections=1.0)
        spare = read_spare(folder.path)
        expected = shapes(config)
        names = [place for place in names if place[0] in expected]
        state_dict = {name: torch.zeros(shape) for name, shape in expected.items()}  # for adaptive attention and biases
        state_dict |= {name: torch.ones(shape) for name, shape in expected.items() if name.endswith((".mask", "_ratio_tensor"))}
        state_dict |= {name: tensor for name, tensor in spare.items() if expected.get(name) == tuple(tensor.shape)}
        state_dict |= {name: maybe_transposed(weights[gpt2], transpose).contiguous() for name, gpt2, transpose in names}
        moments = {
            f"{kind}.{name}": maybe_transposed(moments[f"{kind}.{gpt2}"], transpose and kind != "steps").contiguous()
            for name, gpt2, transpose in names
            for kind in (*MOMENTS, "steps")
            if f"{kind}.{gpt2}" in moments
        }
    elif isinstance(ours, NanEchoConfig) and ours.legacy:
        config, state_dict = ours, dict(weights)
    else:
        raise _inexact(folder, "it is causal, but the original NanEcho is not")
    tril = torch.ones(config.block_size, config.block_size).tril()[None, None]
    state_dict |= {f"blocks.{layer}.attn.mask": tril.clone() for layer in range(config.n_layer)}
    return config, state_dict | {HEAD: state_dict[TOKENS]}, moments


def _inexact(folder: ModelFolder, why: str) -> CheckpointError:
    return CheckpointError(
        f"{folder.path} can't be exported as a NanEcho checkpoint: {why}. Nothing was written.",
        "Only models that were imported from NanEcho, or that use the exact GELU as nanoGPT's do, can be exported to NanEcho.",
    )


def _optimizer(
    order: list[str], state_dict: dict[str, Tensor], moments: dict[str, Tensor], settings: dict[str, Any]
) -> dict[str, Any]:
    """The state_dict of NanEcho's AdamW: all parameters in one group."""
    rate, decay = settings.get("learning_rate", 1e-4), settings.get("weight_decay", 0.1)
    parameters = [torch.empty(0) for _ in order]
    plain = torch.optim.AdamW(parameters, lr=rate, betas=BETAS, weight_decay=decay).state_dict()
    state = {
        index: {"step": moments[f"steps.{name}"]} | {moment: moments[f"{moment}.{name}"] for moment in MOMENTS}
        for index, name in enumerate(order)
        if f"steps.{name}" in moments and moments[f"exp_avg.{name}"].shape == state_dict[name].shape
    }
    return plain | {"state": state}


def _tokenizer(folder: ModelFolder) -> dict[str, Any]:
    facts = folder.metadata
    if facts and facts.tokenizer.name == "gpt2":
        return {"name": "gpt2", "vocab_size": 50257, "eos_token": "<|endoftext|>", "eos_token_id": 50256}
    name = facts.tokenizer.name if facts else "unknown"
    return {"name": name, "vocab_size": folder.config.vocab_size, "eos_token": "", "eos_token_id": 0}


def _digest(config: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:8]
