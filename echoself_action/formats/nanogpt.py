"""nanoGPT's `ckpt.pt` (github.com/karpathy/nanoGPT, train.py and model.py): read, converted to our names, and written.

nanoGPT stores matrices as nn.Linear does; biases may be absent; GELU is the exact one; the head is tied. Its AdamW numbers
parameters in the order of `named_parameters`: first those with two dimensions, then the rest."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..checkpoint.arrays import Array
from ..checkpoint.model_folder import ModelFolder
from ..errors import CheckpointError
from ..model.config import GPT2Config
from ..training.optim.param_groups import BETAS
from .export import kept_moments, plain_settings, save_pt
from .gpt2_tensors import checked, logits, shapes, turned
from .imported_model import Source
from .layouts import number
from .stated_config import training_settings
from .torch_file.reader import Foreign
from .validate_tensors import HEAD, MOMENTS, check_moments, state_of

if TYPE_CHECKING:
    from torch import Tensor


_SIZES = ("n_layer", "n_head", "n_embd", "block_size", "vocab_size")
_UNTRAINED = 1e9  # best_val_loss of a run that was never evaluated


def read_nanogpt(foreign: Foreign) -> Source:
    """Check everything against `model_args`. Raises CheckpointError where the file contradicts itself or holds no numbers."""
    content = foreign.content
    config = _config(foreign, content["model_args"])
    weights = checked(foreign, config, True, "its model_args")
    kept = training_settings(content.get("config"))
    moments, groups = _moments(foreign, weights, content.get("optimizer"))
    step = content["iter_num"]
    if not isinstance(step, int) or isinstance(step, bool) or not 0 <= step < 1 << 53:
        foreign.refuse("has an iter_num that is no count of steps")
    loss = number(content.get("best_val_loss"))
    return Source(
        foreign,
        config,
        turned(weights),
        partial(logits, config, weights, True),
        turned(moments),
        step,
        None if loss == _UNTRAINED else loss,
        kept | groups,
    )


def optimizer_order(weights: "Mapping[str, Array] | Mapping[str, Tensor]") -> tuple[list[str], list[str]]:
    """The names in each of AdamW's two groups: those that decay, and the rest."""
    names = [name for name in weights if name != HEAD]
    return [name for name in names if len(weights[name].shape) > 1], [name for name in names if len(weights[name].shape) < 2]


def _config(foreign: Foreign, args: object) -> GPT2Config:
    if not isinstance(args, Mapping):
        foreign.refuse("has model_args that are no dict")
    sizes = {name: value for name in _SIZES if type(value := args.get(name)) is int and value > 0}
    if missing := [name for name in _SIZES if name not in sizes]:
        foreign.refuse(f"has no whole number for {', '.join(missing)} in its model_args")
    if sizes["n_embd"] % sizes["n_head"]:
        foreign.refuse(f"says n_embd={sizes['n_embd']}, which is not divisible by n_head={sizes['n_head']}")
    bias, dropout = args.get("bias", True), number(args.get("dropout", 0.0))
    if type(bias) is not bool or dropout is None or not 0 <= dropout < 1:
        foreign.refuse("has a bias or a dropout in its model_args that is none")
    if sizes["n_layer"] > len(foreign.weights):  # before anything is made for every layer
        foreign.refuse(f"says n_layer={sizes['n_layer']}, and has {len(foreign.weights)} tensors")
    return GPT2Config(**sizes, dropout=dropout, bias=bias, activation="gelu")


def _moments(foreign: Foreign, weights: Mapping[str, Array], optimizer: Any) -> tuple[dict[str, Array], dict[str, Any]]:
    """AdamW's state by parameter name, and its settings. Both empty where it has taken no step, or none was saved."""
    state = state_of(optimizer)
    if state is None:
        return {}, {}
    decayed, rest = optimizer_order(weights)
    groups: Any = optimizer.get("param_groups")
    order = dict(enumerate([*decayed, *rest]))
    try:
        positions = [list(group["params"]) for group in groups]
        beta1, beta2 = groups[0]["betas"]
        settings = {"weight_decay": float(groups[0]["weight_decay"]), "beta1": float(beta1), "beta2": float(beta2)}
        fits = positions == [list(range(len(decayed))), list(range(len(decayed), len(order)))] and set(state) == set(order)
        found = {f"{moment}.{name}": state[i][moment] for i, name in order.items() for moment in MOMENTS}
        steps = {f"steps.{name}": number(state[i]["step"]) for i, name in order.items()}
    except (AttributeError, TypeError, KeyError, ValueError, IndexError):
        fits = False
    if not fits:
        foreign.refuse("has an optimizer state that is not nanoGPT's AdamW of this model")
    check_moments(foreign, found, weights)
    if any(step is None or step < 0 for step in steps.values()):
        foreign.refuse("has an optimizer state that counts no steps")
    return {**found, **{key: np.array(step, np.float32) for key, step in steps.items()}}, settings


def export_nanogpt(folder: ModelFolder, path: Path) -> None:
    """Write `folder` as a `ckpt.pt` that nanoGPT's train.py goes on from with --init_from=resume, whole or not at all.

    Raises CheckpointError where nanoGPT can't compute this model exactly.
    """
    config = folder.config
    if not isinstance(config, GPT2Config):
        raise CheckpointError(
            f"{folder.path} can't become a nanoGPT checkpoint: it is a {folder.architecture} model. No ckpt.pt was written.",
            "Leave nanogpt out of formats.",
        )
    odd = [f"activation {config.activation}"] if config.activation != "gelu" else []
    odd += [f"layer norm epsilon {config.layer_norm_epsilon}"] if config.layer_norm_epsilon != 1e-5 else []
    if odd:
        raise CheckpointError(
            f"{folder.path} can't become a nanoGPT checkpoint: it has {', '.join(odd)}, and nanoGPT computes the exact GELU "
            "with epsilon 1e-05. No ckpt.pt was written.",
            "Models of the exact GELU go there without a change: those that were started here, and nanoGPT's own.",
        )
    held = turned(folder.load_model().state_dict())
    model = {name: held[name].contiguous() for name in shapes(config)}
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
    """The state_dict of nanoGPT's AdamW; with no state where the folder has none, which is a new optimizer."""
    decayed, rest = optimizer_order(model)
    groups = [
        {"params": [torch.empty(0) for _ in decayed], "weight_decay": settings.get("weight_decay", 0.1)},
        {"params": [torch.empty(0) for _ in rest], "weight_decay": 0.0},
    ]
    betas = (settings.get("beta1", BETAS[0]), settings.get("beta2", BETAS[1]))
    plain = torch.optim.AdamW(groups, lr=settings.get("learning_rate", 1e-3), betas=betas).state_dict()
    moments = {name: tensor.contiguous() for name, tensor in turned(kept_moments(folder)).items()}
    state = {
        i: {"step": moments[f"steps.{name}"]} | {moment: moments[f"{moment}.{name}"] for moment in MOMENTS}
        for i, name in enumerate([*decayed, *rest])
        if f"steps.{name}" in moments
    }
    return plain | {"state": state}
