"""Small checkpoints in every layout, as the original programs save them."""

from pathlib import Path
from typing import Any

import numpy as np
import torch


def save(content: object, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


def nanogpt_checkpoint(
    *, vocab_size: int = 64, bias: bool = True, n_embd: int = 16, dataset: str = "none", seed: int = 0
) -> dict[str, Any]:
    """What nanoGPT's train.py saves after 7 steps of a random model with 2 layers, 2 heads and a block of 16."""
    generator = torch.Generator().manual_seed(seed)
    shapes: dict[str, tuple[int, ...]] = {"wte.weight": (vocab_size, n_embd), "wpe.weight": (16, n_embd)}
    wide = {"attn.c_attn": (3 * n_embd, n_embd), "attn.c_proj": (n_embd, n_embd)}
    wide |= {"mlp.c_fc": (4 * n_embd, n_embd), "mlp.c_proj": (n_embd, 4 * n_embd)}
    for i in range(2):
        for name in ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj"):
            shapes[f"h.{i}.{name}.weight"] = wide.get(name, (n_embd,))
            shapes[f"h.{i}.{name}.bias"] = shapes[f"h.{i}.{name}.weight"][:1]
    shapes |= {"ln_f.weight": (n_embd,), "ln_f.bias": (n_embd,)}
    model = {
        f"transformer.{name}": 0.1 * torch.randn(shape, generator=generator)
        for name, shape in shapes.items()
        if bias or not name.endswith("bias")
    }
    order = [name for name in model if model[name].dim() > 1], [name for name in model if model[name].dim() < 2]
    state = {
        i: {
            "step": torch.tensor(7.0),
            "exp_avg": torch.randn(model[name].shape, generator=generator),
            "exp_avg_sq": torch.rand(model[name].shape, generator=generator),
        }
        for i, name in enumerate([*order[0], *order[1]])
    }
    settings = {"lr": 1e-3, "betas": (0.9, 0.99), "eps": 1e-8, "amsgrad": False, "maximize": False, "foreach": None}
    settings |= {"capturable": False, "differentiable": False, "fused": None, "decoupled_weight_decay": True}
    groups = [
        settings | {"weight_decay": 0.05, "params": list(range(len(order[0])))},
        settings | {"weight_decay": 0.0, "params": list(range(len(order[0]), len(model)))},
    ]
    sizes = {"n_layer": 2, "n_head": 2, "n_embd": n_embd, "block_size": 16, "bias": bias, "vocab_size": vocab_size}
    config = {"batch_size": 4, "gradient_accumulation_steps": 2, "learning_rate": 1e-3, "min_lr": 1e-4, "decay_lr": True}
    config |= {"warmup_iters": 5, "lr_decay_iters": 100, "dtype": "float32", "dataset": dataset, "out_dir": "out"}
    return {
        "model": model | {"lm_head.weight": model["transformer.wte.weight"]},
        "optimizer": {"state": state, "param_groups": groups},
        "model_args": sizes | {"dropout": 0.0},
        "iter_num": 7,
        "best_val_loss": torch.tensor(2.5),
        "config": config,
    }


def gpt2_weights(*, linear: bool, prefix: str = "", root: str = "transformer.", seed: int = 0) -> dict[str, torch.Tensor]:
    """A GPT-2 of the sizes of `nanogpt_checkpoint`, its matrices stored as in nn.Linear or as in Conv1D."""
    matrices = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
    return {
        prefix + name.replace("transformer.", root): tensor
        if linear or not name.endswith(matrices)
        else tensor.t().contiguous()
        for name, tensor in nanogpt_checkpoint(seed=seed)["model"].items()
    }


SIZES = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 16, "vocab_size": 64, "bias": True, "dropout": 0.0}

# Every layout of the table but nanoGPT's own: the key of the weights, and the other entries. Step 7 each.
LAYOUTS: dict[str, tuple[str, dict[str, Any]]] = {
    "NanEcho train_nanecho": (
        "model_state_dict",
        {
            **{"format": "nanecho-pytorch-v1", "iteration": 7, "optimizer_state_dict": {"state": {}}, "model_config": SIZES},
            **{"config": {"batch_size": 4}, "training_run_config": {}, "metrics": {}, "connection_ratio": 1.0},
            "tokenizer": {"name": "unknown"},
        },
    ),
    "NanEcho cache": (
        "model_state_dict",
        {
            **{"optimizer_state_dict": {"state": {}}, "scheduler_state_dict": None, "iteration": 7, "epoch": 0},
            **{"train_loss": 1.75, "val_loss": np.float64(2.5), "learning_rate": 1e-3, "model_config": SIZES},
            **{"training_config": {"batch_size": 4}, "data_config": {}, "metrics": {}, "timestamp": "now"},
            **{"checkpoint_id": "ckpt_1", "format": "nanecho-pytorch-v1", "connection_ratio": 1.0, "current_iteration": 7},
            "tokenizer": {},
        },
    ),
    "NanEcho best_model_export": (
        "model_state_dict",
        {
            **{"model_config": SIZES, "training_config": {}, "exported_at": "now"},
            "metadata": {"iteration": 7, "val_loss": np.float64(2.5)},
        },
    ),
    "NanEcho fallback export": ("model_state_dict", {"model_config": SIZES, "exported_at": "now", "fallback": True}),
    "NanEcho native export": (
        "model_state_dict",
        {
            **{"format": "nanecho-pytorch-v1", "config": SIZES, "tokenizer": {}, "iteration": 7, "connection_ratio": 1.0},
            "metrics": {"val_loss": 2.5},
        },
    ),
    "echoself pull": (
        "model",
        {
            "config": SIZES,
            "metadata": {"source": "cache", "original_checkpoint_id": "ckpt_1", "val_loss": 2.5, "iteration": 7},
        },
    ),
    "netrain": (
        "model_state_dict",
        {
            **{"optimizer_state_dict": {}, "scheduler_state_dict": {}, "global_step": 7, "epoch": 1, "best_val_loss": 2.5},
            **{"config": SIZES, "metrics": {}},
        },
    ),
    "another EchoSelf trainer, by steps": ("model_state_dict", {"step": 7, "loss": 1.75, "config": SIZES}),
    "another EchoSelf trainer, by epochs": (
        "model_state_dict",
        {"epoch": 2, "optimizer_state_dict": {}, "loss": 1.75, "history": [3.0, 1.75]},
    ),
    "another EchoSelf trainer, with its losses": (
        "model_state_dict",
        {"optimizer_state_dict": {}, "step": 7, "epoch": 1, "best_loss": 1.5, "loss_history": [3.0]},
    ),
    "older export": ("model_state", {"metadata": {"model_config": SIZES, "iteration": 7}}),
    "a state dict and nothing else": ("", {}),
}


def of_layout(name: str, weights: dict[str, torch.Tensor]) -> dict[str, Any]:
    """A checkpoint of this layout with these weights."""
    key, others = LAYOUTS[name]
    return {**others, key: weights} if key else weights


def declares_heads(name: str) -> bool:
    """Whether files of this layout record n_head."""
    return "n_head" in str(LAYOUTS[name])
