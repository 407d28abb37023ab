"""Exports a model folder as nanoGPT's `ckpt.pt` (github.com/karpathy/nanoGPT), with the optimizer's moments in its order.

This is a separate module because the reader does not need PyTorch.
"""

from pathlib import Path
from typing import Any

import torch

from ..checkpoint.model_folder import ModelFolder
from ..checkpoint.weights import load_model
from ..errors import CheckpointError
from ..model.config import GPT2Config
from ..training.optim.adamw import BETAS
from .gpt2_tensors import shapes, transposed
from .optimizer_state import MOMENTS, nanogpt_groups
from .torch_file.writer import kept_moments, plain_settings, save_pt


def export(folder: ModelFolder, output_dir: Path) -> tuple[Path, str]:
    """Write `folder` as `nanogpt/ckpt.pt`; see `FormatExporter`."""
    path = output_dir / "nanogpt" / "ckpt.pt"
    export_nanogpt(folder, path)
    return path, f"train.py --init_from=resume --out_dir={path.parent}"


def export_nanogpt(folder: ModelFolder, path: Path) -> None:
    """Write `folder`, atomically, as a `ckpt.pt` from which nanoGPT's train.py resumes with --init_from=resume.

    Raises CheckpointError if nanoGPT can't compute this model exactly.
    """
    config = folder.config
    if not isinstance(config, GPT2Config):
        raise CheckpointError(
            f"{folder.path} can't be exported as a nanoGPT checkpoint: its architecture is {folder.architecture.name}. No "
            "ckpt.pt was written.",
            "Leave nanogpt out of formats.",
        )
    odd = [f"activation {config.activation}"] if config.activation != "gelu" else []
    odd += [f"layer norm epsilon {config.layer_norm_epsilon}"] if config.layer_norm_epsilon != 1e-5 else []
    if odd:
        raise CheckpointError(
            f"{folder.path} can't be exported as a nanoGPT checkpoint: it has {', '.join(odd)}, but nanoGPT uses the exact "
            "GELU with epsilon 1e-05. No ckpt.pt was written.",
            "Only models with the exact GELU can be exported: those trained here from scratch, or imported from nanoGPT.",
        )
    tensors = transposed(load_model(folder).state_dict())
    model = {name: tensors[name].contiguous() for name in shapes(config)}
    facts = folder.metadata
    settings = plain_settings(folder)
    content = {
        "model": {**model, "lm_head.weight": model["transformer.wte.weight"]},
        "optimizer": _optimizer(folder, model, settings),
        "model_args": {name: getattr(config, name) for name in ("n_layer", "n_head", "n_embd", "block_size", "bias")}
        | {"vocab_size": config.vocab_size, "dropout": config.dropout},
        "iter_num": folder.step,
        "best_val_loss": 1e9 if facts is None or facts.best_val_loss is None else facts.best_val_loss,
        "config": settings,
    }
    save_pt(content, path)


def _optimizer(folder: ModelFolder, model: dict[str, torch.Tensor], settings: dict[str, Any]) -> dict[str, Any]:
    """The state_dict of nanoGPT's AdamW; without state, as in a new optimizer, if the folder has none."""
    decayed, rest = nanogpt_groups(model)
    groups = [
        {"params": [torch.empty(0) for _ in decayed], "weight_decay": settings.get("weight_decay", 0.1)},
        {"params": [torch.empty(0) for _ in rest], "weight_decay": 0.0},
    ]
    betas = (settings.get("beta1", BETAS[0]), settings.get("beta2", BETAS[1]))
    plain = torch.optim.AdamW(groups, lr=settings.get("learning_rate", 1e-3), betas=betas).state_dict()
    moments = {name: tensor.contiguous() for name, tensor in transposed(kept_moments(folder)).items()}
    state = {
        i: {"step": moments[f"steps.{name}"]} | {moment: moments[f"{moment}.{name}"] for moment in MOMENTS}
        for i, name in enumerate([*decayed, *rest])
        if f"steps.{name}" in moments
    }
    return plain | {"state": state}
