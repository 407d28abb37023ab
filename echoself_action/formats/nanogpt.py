"""nanoGPT's `ckpt.pt` (github.com/karpathy/nanoGPT, train.py and model.py): read and converted to our names.

nanoGPT stores matrices as nn.Linear does; biases may be absent; GELU is the exact one; the head is tied. Its AdamW numbers
parameters in the order of `named_parameters`: first those with two dimensions, then the rest."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..checkpoint.arrays import Array
from ..model.config import GPT2Config
from .detect_layout import number
from .gpt2_tensors import checked, logits, turned
from .imported_model import HEAD, MOMENTS, ImportedModel, check_moments, state_of
from .recorded_config import training_settings
from .torch_file.reader import TorchFile

if TYPE_CHECKING:
    from torch import Tensor


_SIZES = ("n_layer", "n_head", "n_embd", "block_size", "vocab_size")
_UNTRAINED = 1e9  # best_val_loss of a run that was never evaluated


def read(foreign: TorchFile, n_head: int | None = None) -> ImportedModel:  # noqa: ARG001  # its model_args have it
    """Check everything against `model_args`. Raises CheckpointError where the file contradicts itself or holds no numbers."""
    content = foreign.content
    config = _config(foreign, content["model_args"])
    weights = checked(foreign, config, True, "its model_args")
    kept = training_settings(content.get("config"))
    moments, groups = _moments(foreign, weights, content.get("optimizer"))
    step = content["iter_num"]
    if not isinstance(step, int) or isinstance(step, bool) or not 0 <= step < 1 << 53:
        foreign.refuse("has an iter_num that is not a valid step count")
    loss = number(content.get("best_val_loss"))
    return ImportedModel(
        foreign.origin,
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


def _config(foreign: TorchFile, args: object) -> GPT2Config:
    if not isinstance(args, Mapping):
        foreign.refuse("has model_args that are not a dict")
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


def _moments(foreign: TorchFile, weights: Mapping[str, Array], optimizer: Any) -> tuple[dict[str, Array], dict[str, Any]]:
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
