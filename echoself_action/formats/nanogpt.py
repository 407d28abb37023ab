"""nanoGPT's `ckpt.pt` (github.com/karpathy/nanoGPT, train.py and model.py): read and converted to our names.

nanoGPT stores matrices as nn.Linear does; biases may be absent; the GELU is exact; the head is tied. Its AdamW numbers the
parameters in the order of `named_parameters`, first those with two dimensions, then the rest.
"""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..checkpoint.arrays import Array
from ..model.config import GPT2Config
from .detect_layout import number
from .gpt2_tensors import gpt2_weights, logits, transposed
from .imported_model import HEAD, MOMENTS, ImportedModel, check_moments, state_of
from .recorded_config import training_settings
from .torch_file.reader import TorchFile

if TYPE_CHECKING:
    from torch import Tensor


_SIZES = ("n_layer", "n_head", "n_embd", "block_size", "vocab_size")
_UNTRAINED = 1e9  # best_val_loss of a run that was never evaluated


def read(file: TorchFile, n_head: int | None = None) -> ImportedModel:  # noqa: ARG001  # model_args always has it
    """Convert the checkpoint, with all tensors checked against `model_args`.

    Raises CheckpointError if the file contradicts itself, or contains NaN or infinity.
    """
    content = file.content
    config = _config(file, content["model_args"])
    weights = gpt2_weights(file, config, True, "its model_args")
    kept = training_settings(content.get("config"))
    moments, groups = _moments(file, weights, content.get("optimizer"))
    step = content["iter_num"]
    if not isinstance(step, int) or isinstance(step, bool) or not 0 <= step < 1 << 53:
        file.refuse("has an iter_num that is not a valid step count")
    loss = number(content.get("best_val_loss"))
    return ImportedModel(
        file.origin,
        config,
        transposed(weights),
        partial(logits, config, weights, True),
        transposed(moments),
        step,
        None if loss == _UNTRAINED else loss,
        kept | groups,
    )


def optimizer_order(weights: "Mapping[str, Array] | Mapping[str, Tensor]") -> tuple[list[str], list[str]]:
    """The names in each of AdamW's two groups: with weight decay, and without."""
    names = [name for name in weights if name != HEAD]
    return [name for name in names if len(weights[name].shape) > 1], [name for name in names if len(weights[name].shape) < 2]


def _config(file: TorchFile, args: object) -> GPT2Config:
    if not isinstance(args, Mapping):
        file.refuse("has model_args that are not a dict")
    sizes = {name: value for name in _SIZES if type(value := args.get(name)) is int and value > 0}
    if missing := [name for name in _SIZES if name not in sizes]:
        file.refuse(f"has no positive integer for {', '.join(missing)} in its model_args")
    if sizes["n_embd"] % sizes["n_head"]:
        file.refuse(f"records n_embd={sizes['n_embd']}, which is not divisible by n_head={sizes['n_head']}")
    bias, dropout = args.get("bias", True), number(args.get("dropout", 0.0))
    if type(bias) is not bool or dropout is None or not 0 <= dropout < 1:
        file.refuse("has an invalid bias or dropout in its model_args")
    if sizes["n_layer"] > len(file.weights):  # checked before anything is allocated for each layer
        file.refuse(f"records n_layer={sizes['n_layer']}, but has only {len(file.weights)} tensors")
    return GPT2Config(**sizes, dropout=dropout, bias=bias, activation="gelu")


def _moments(file: TorchFile, weights: Mapping[str, Array], optimizer: Any) -> tuple[dict[str, Array], dict[str, Any]]:
    """AdamW's state by parameter name, and its settings. Both are empty if it has taken no step, or was not saved."""
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
        file.refuse("has an optimizer state that does not match nanoGPT's AdamW for this model")
    check_moments(file, found, weights)
    if any(step is None or step < 0 for step in steps.values()):
        file.refuse("has an optimizer state without a valid step count")
    return {**found, **{key: np.array(step, np.float32) for key, step in steps.items()}}, settings
