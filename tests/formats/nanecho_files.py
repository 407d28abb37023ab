"""Small NanEcho checkpoints in every layout, as the original programs save them."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core import multiarray

from echoself_action.model.nanecho import PERSONA_DIMENSIONS, NanEchoConfig, NanEchoForCausalLM

SIZES = {"vocab_size": 64, "n_embd": 16, "n_head": 2, "n_layer": 4, "block_size": 16, "dropout": 0.0, "bias": True}
GROWTH = {"initial_connections": 0.1, "connection_growth_rate": 0.05, "max_connections": 1.0}
EXTRAS = ("adaptive_attention", "persona_dimensions", "recursive_reasoning", "hypergraph_patterns")


def load(path: Path | BytesIO) -> dict[str, Any]:
    """A checkpoint of the original's, loaded by torch.load, with the NumPy scalars in it allowed."""
    named = [(multiarray.scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    with torch.serialization.safe_globals([*named, np.dtype, type(np.dtype("f8"))]):
        content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


def state_dict(seed: int = 0, *, dimensions: list[str] | None = None, **config: Any) -> dict[str, torch.Tensor]:
    """A random model's, with its buffers and its tied head, as NanEchoModel's own state_dict has them."""
    shape = NanEchoConfig(**SIZES | GROWTH | config, persona_dimensions=dimensions)
    model = NanEchoForCausalLM(shape)
    model.initialise(seed)
    generator = torch.Generator().manual_seed(seed)
    full = shape.initial_connections == 1
    held = {
        name: tensor if "mask" in name else 0.1 * torch.randn(tensor.shape, generator=generator)
        for name, tensor in model.state_dict().items()
    }
    masks = {name: torch.ones_like(tensor) for name, tensor in held.items() if name.endswith(".mask") and full}
    tril = torch.ones(shape.block_size, shape.block_size).tril()[None, None]
    causal = {f"blocks.{layer}.attn.mask": tril for layer in range(shape.n_layer)}
    return held | masks | causal | {"lm_head.weight": held["token_embedding.weight"]}


def nanecho_checkpoint(
    layout: str, weights: dict[str, torch.Tensor], *, iteration: int = 40, **declared: Any
) -> dict[str, Any]:
    """A checkpoint of `layout` with these weights."""
    model_config = SIZES | GROWTH | declared
    full = model_config | {
        "persona_dimensions": list(PERSONA_DIMENSIONS),
        "dimension_weights": dict.fromkeys(PERSONA_DIMENSIONS, 0.125),
    }
    training = {
        "batch_size": 4,
        "learning_rate": 2e-3,
        "warmup_iters": 5,
        "lr_decay_iters": 40,
        "min_lr": 1e-5,
        "max_iters": 40,
    }
    facts = {"iteration": iteration, "val_loss": np.float64(2.5), "train_loss": 2.4}
    optimizer = {"optimizer_state_dict": adamw(weights, adaptive=declared.get("enable_adaptive_attention", True))}
    tokenizer = {"name": "gpt2", "vocab_size": 50257, "eos_token": "<|endoftext|>", "eos_token_id": 50256}
    body = {"model_state_dict": weights}
    match layout:
        case "train_nanecho":
            run = SIZES | GROWTH | training | {"connection_growth_interval": 10}
            growing = {"format": "nanecho-pytorch-v1", "iteration": iteration, "metrics": {"val_loss": np.float64(2.5)}}
            growing |= {"connection_ratio": 0.1, "tokenizer": tokenizer}
            return body | optimizer | growing | {"config": run, "training_run_config": run, "model_config": full | declared}
        case "cache":
            extra = {"scheduler_state_dict": None, "epoch": 0, "learning_rate": 1e-5, "checkpoint_id": "ckpt_1", "metrics": {}}
            extra |= {"training_config": training, "data_config": {"data_dir": "data/nanecho"}, "timestamp": "2026-01-01"}
            extra |= {
                "format": "nanecho-pytorch-v1",
                "connection_ratio": 0.1,
                "current_iteration": iteration - 1,
                "tokenizer": tokenizer,
            }
            return body | optimizer | facts | extra | {"model_config": model_config}
        case "export":
            return body | {"model_config": model_config, "training_config": training, "metadata": facts, "exported_at": "now"}
        case "fallback":
            seven = {name: model_config[name] for name in SIZES}
            return body | {"model_config": seven, "exported_at": "now", "fallback": True}
        case "native":
            native = {"format": "nanecho-pytorch-v1", "config": full | declared, "tokenizer": tokenizer, "iteration": iteration}
            return body | native | {"connection_ratio": 0.1, "metrics": {}}
        case "older":
            return {"model_state": weights, "metadata": facts | {"model_config": model_config}}
        case "pull":
            metadata = {"source": "cache", "original_checkpoint_id": "ckpt_1", "quality_score": 0.2} | facts
            return {"model": weights, "config": model_config, "metadata": metadata}
        case "netrain":
            trainer = {"optimizer_state_dict": {}, "scheduler_state_dict": {}, "global_step": iteration, "epoch": 1}
            return body | trainer | {"best_val_loss": 2.5, "config": model_config, "metrics": {}}
        case "by steps":
            return body | {"step": iteration, "loss": 2.4, "config": model_config}
        case "by epochs":
            return body | {"epoch": 2, "optimizer_state_dict": {}, "loss": 2.4, "history": [3.0, 2.4]}
        case "by losses":
            losses = {"best_loss": 2.4, "loss_history": [3.0, 2.4]}
            return body | losses | {"optimizer_state_dict": {}, "step": iteration, "epoch": 1}
        case _:
            return dict(weights)


def adamw(weights: dict[str, torch.Tensor], *, adaptive: bool = True) -> dict[str, Any]:
    """The state_dict of AdamW over all parameters in one group; those without a gradient have no state."""
    unreached = (".combiner.", *(() if adaptive else (".threshold_net.", ".cognitive_load_estimator.")))
    order = [name for name in weights if not name.endswith((".mask", "_ratio_tensor", "lm_head.weight"))]
    generator = torch.Generator().manual_seed(1)
    state = {
        index: {
            "step": torch.tensor(40.0),
            "exp_avg": torch.randn(weights[name].shape, generator=generator),
            "exp_avg_sq": torch.rand(weights[name].shape, generator=generator),
        }
        for index, name in enumerate(order)
        if not any(part in name for part in unreached)
    }
    groups = [{"lr": 1e-3, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1, "params": list(range(len(order)))}]
    return {"state": state, "param_groups": groups}
