"""Exports a model folder as nanoGPT's `ckpt.pt` (github.com/karpathy/nanoGPT), with the optimizer's moments in its order.

nanoGPT computes the exact GELU since June 2023, and computed its tanh approximation before; the groups of its AdamW changed in
May 2023. So the activation of a model decides for which versions its file is. This is a separate module because the reader does
not need PyTorch.
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
from .optimizer_state import MOMENTS, Groups, early_nanogpt_groups, nanogpt_groups
from .registry import Exported
from .torch_file.writer import kept_moments, moments_notes, plain_settings, save_pt

# The commit before the groups of AdamW changed. Older ones, before March 2023, resume with --dropout=0.0 only.
EARLY = "196160b8"


def export(folder: ModelFolder, output_dir: Path) -> Exported:
    """Write `folder` as `nanogpt/ckpt.pt`; see `FormatExporter`."""
    path = output_dir / "nanogpt" / "ckpt.pt"
    export_nanogpt(folder, path)
    notes = moments_notes(kept_moments(folder))
    command = f"train.py --init_from=resume --out_dir={path.parent}"
    if isinstance(folder.config, GPT2Config) and folder.config.activation == "gelu_new":
        command += f", of nanoGPT at the commit {EARLY}"
        reason = "this model has the tanh approximation of GELU, which nanoGPT computed before June 2023"
        notes = (f"{reason}: newer versions of its train.py can't load the file, and would compute another model", *notes)
    return Exported(path, command, notes)


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
    if config.layer_norm_epsilon != 1e-5:
        raise CheckpointError(
            f"{folder.path} can't be exported as a nanoGPT checkpoint: its layer norm epsilon is {config.layer_norm_epsilon}, "
            "but nanoGPT's is 1e-05. No ckpt.pt was written.",
            "Leave nanogpt out of formats.",
        )
    tensors = transposed(load_model(folder).state_dict())
    model = {name: tensors[name].contiguous() for name in shapes(config)}
    facts = folder.metadata
    settings = plain_settings(folder)
    groups = (early_nanogpt_groups if config.activation == "gelu_new" else nanogpt_groups)(model)
    content = {
        "model": {**model, "lm_head.weight": model["transformer.wte.weight"]},
        "optimizer": _optimizer(folder, groups, settings),
        "model_args": {name: getattr(config, name) for name in ("n_layer", "n_head", "n_embd", "block_size", "bias")}
        | {"vocab_size": config.vocab_size, "dropout": config.dropout},
        "iter_num": folder.step,
        "best_val_loss": 1e9 if facts is None or (best := facts.exported_losses[1]) is None else best,
        "config": settings | {"activation": config.activation},  # nanoGPT's code has it; an import does not have to guess
    }
    save_pt(content, path)


def _optimizer(folder: ModelFolder, groups: Groups, settings: dict[str, Any]) -> dict[str, Any]:
    """The state_dict of nanoGPT's AdamW; without state, as in a new optimizer, for parameters that AdamW did not update."""
    decayed, rest = groups
    empty = [
        {"params": [torch.empty(0) for _ in decayed], "weight_decay": settings.get("weight_decay", 0.1)},
        {"params": [torch.empty(0) for _ in rest], "weight_decay": 0.0},
    ]
    betas = (settings.get("beta1", BETAS[0]), settings.get("beta2", BETAS[1]))
    plain = torch.optim.AdamW(empty, lr=settings.get("learning_rate", 1e-3), betas=betas).state_dict()
    moments = {name: tensor.contiguous() for name, tensor in transposed(kept_moments(folder)).items()}
    state = {
        i: {"step": moments[f"steps.{name}"]} | {moment: moments[f"{moment}.{name}"] for moment in MOMENTS}
        for i, name in enumerate([*decayed, *rest])
        if f"steps.{name}" in moments
    }
    return plain | {"state": state}
