"""Checkpoints as their writers make them, small and from the table of layouts."""

from pathlib import Path
from typing import Any

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
