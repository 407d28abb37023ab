"""A GPT-2 in any layout but nanoGPT's own: a state dict by GPT-2's names, whose sizes are declared or seen in its tensors.

The number of heads can't be seen. Which GELU it was trained with can't either: a file with nn.Linear's matrices comes from
nanoGPT or its kin, which compute the exact one; one with GPT-2's own from transformers, which approximates it by tanh.
"""

import re
from collections.abc import Mapping
from functools import partial
from typing import cast

from ..checkpoint.arrays import Array
from ..checkpoint.gpt2_config import POSITIONS, TOKENS, read_config
from ..model.config import Activation, GPT2Config
from .detect_layout import number
from .gpt2_tensors import checked, gpt2_names, is_turned, logits, turned
from .imported_model import ImportedModel
from .recorded_config import (
    SIZES,
    Declared,
    beside,
    inside,
    losses_of,
    read_json,
    step_of,
    training_settings,
)
from .torch_file.reader import TorchFile

_BLOCK = re.compile(r"transformer\.h\.(\d{1,6})\.")
_ACTIVATIONS = ("activation_function", "activation")
_HEADS_ADVICE = (
    "Give n_head, or put the model's config.json (or model_config.json) with n_head in it beside the file: a wrong number "
    "of heads fits the same tensors, and computes another model."
)


def read(foreign: TorchFile, n_head: int | None) -> ImportedModel:
    """The checkpoint in our terms; `n_head` is what the user says, for files that don't.

    Raises CheckpointError where the file contradicts itself, holds no numbers, or nobody says how many heads it has.
    """
    stored, said = gpt2_names(foreign), inside(foreign)
    linear = is_turned(foreign, stored)
    sizes = _seen(foreign, stored)
    around = beside(foreign.path)
    heads, remarks = _heads(foreign, sizes, said, around, n_head)
    config = _config(foreign, sizes, heads, said, around, linear)
    weights = checked(foreign, config, linear, "the sizes that are seen in its other tensors")
    step = step_of(foreign)
    if step is None:
        remarks += ("it records no step: steps count from 0",)
    if any(key in foreign.content for key in ("optimizer", "optimizer_state_dict")):
        remarks += ("its optimizer state was not imported, because its entries can't be assigned to parameters with certainty",)
    remarks += (_how_it_lies(config, linear),)
    trained = next((foreign.content[key] for key in ("training_config", "config") if key in foreign.content), None)
    train_loss, best_val_loss = losses_of(foreign)
    return ImportedModel(
        foreign.origin,
        config,
        turned(weights) if linear else weights,
        partial(logits, config, weights, linear),
        step=step or 0,
        train_loss=train_loss,
        best_val_loss=best_val_loss,
        settings=training_settings(trained),
        remarks=remarks,
    )


def _seen(foreign: TorchFile, stored: Mapping[str, Array]) -> dict[str, int]:
    """The sizes that the tensors show."""
    tokens, positions = stored.get(TOKENS, stored.get("lm_head.weight")), stored.get(POSITIONS)
    if tokens is None or positions is None or tokens.ndim != 2 or positions.ndim != 2:
        foreign.refuse(f"has no {TOKENS} and {POSITIONS} that are matrices, and no GPT-2 is without them")
    layers = {int(match[1]) for match in map(_BLOCK.match, stored) if match}
    if layers != set(range(len(layers))):
        foreign.refuse(f"has tensors of the blocks {sorted(layers)[:20]}: some are missing between them")
    return {
        "n_layer": len(layers),
        "n_embd": tokens.shape[1],
        "block_size": positions.shape[0],
        "vocab_size": tokens.shape[0],
    }


def _heads(
    foreign: TorchFile, sizes: Mapping[str, int], said: list[Declared], around: list[Declared], given: int | None
) -> tuple[int, tuple[str, ...]]:
    """How many heads, and whose word that is. What the file says counts, then the user, then a JSON beside it."""
    for place in said:
        _require_agreement(foreign, place, sizes)
    inner = {place.where: heads for place in said if (heads := place.size("n_head"))}
    outer = {place.where: heads for place in around if (heads := place.size("n_head"))}
    if len(set(inner.values())) > 1:
        foreign.refuse(f"contradicts itself: {_listed(inner)}")
    if inner:
        heads = next(iter(inner.values()))
        if given not in (None, heads):
            foreign.refuse(f"says n_head={heads} in {next(iter(inner))}, and n_head: {given} was given", "Leave n_head out.")
        remark: tuple[str, ...] = ()
    elif given:
        heads, remark = given, (f"n_head={given} was given: nothing in the file can confirm it",)
    elif outer:
        for place in around:
            _require_agreement(foreign, place, sizes)
        where, heads = next(iter(outer.items()))
        if len(set(outer.values())) > 1 and not _by_echoself_converter(foreign):
            foreign.refuse(f"has files beside it that contradict each other: {_listed(outer)}", "Give n_head.")
        told = f", and not {_listed(outer).split(', ', 1)[1]}" if len(set(outer.values())) > 1 else ""
        remark = (f"n_head={heads} is what {where} says{told}: nothing in the file can confirm it",)
    else:
        foreign.refuse("does not say how many heads the model has, and its tensors can't show it", _HEADS_ADVICE)
    if sizes["n_embd"] % heads:
        foreign.refuse(f"has a width of {sizes['n_embd']}, which is not divisible by n_head={heads}", _HEADS_ADVICE)
    return heads, remark


def _config(
    foreign: TorchFile,
    sizes: Mapping[str, int],
    heads: int,
    said: list[Declared],
    around: list[Declared],
    linear: bool,
) -> GPT2Config:
    """The shape of the model. A transformers config, in the file or beside it, must be one that ours computes exactly."""
    bias = any(name.endswith(".bias") for name in gpt2_names(foreign))
    sources = said if linear else [*said, *around]  # what lies beside speaks of how transformers computes the model
    for place in said:
        declared = place.values.get("bias", bias)
        if declared != bias:
            foreign.refuse(f"says bias={declared!r} in {place.where}, and {'has' if bias else 'has no'} biases")
    for place in sources:
        if place.values.get("model_type") == "gpt2":
            stock = {"n_positions": sizes["block_size"], **sizes, "n_head": heads, "bias": bias}
            read_config(foreign.path, {**place.values, **stock})  # raises for what changes the arithmetic
    activation = next((place.values[key] for place in sources for key in _ACTIVATIONS if key in place.values), None)
    activation = activation or ("gelu" if linear else "gelu_new")
    if activation not in ("gelu", "gelu_new"):
        foreign.refuse(f"says activation_function={activation!r:.60}, which GPT-2 here can't compute")
    dropout = next((value for place in said if (value := number(place.values.get("dropout"))) is not None), 0.0)
    epsilon = next((value for place in sources if (value := number(place.values.get("layer_norm_epsilon")))), 1e-5)
    if not 0 <= dropout < 1 or not 0 < epsilon < 1:
        foreign.refuse("has a dropout or a layer_norm_epsilon that is none")
    return GPT2Config(
        **sizes,
        n_head=heads,
        dropout=dropout,
        bias=bias,
        activation=cast(Activation, activation),
        layer_norm_epsilon=epsilon,
    )


def _how_it_lies(config: GPT2Config, linear: bool) -> str:
    order = "nn.Linear's" if linear else "GPT-2's own"
    gelu = "the exact GELU" if config.activation == "gelu" else "GELU by tanh"
    return f"its matrices lie in {order} order, and it is taken to compute {gelu} ({config.activation})"


def _require_agreement(foreign: TorchFile, place: Declared, sizes: Mapping[str, int]) -> None:
    wrong = [name for name in SIZES if place.size(name) not in (None, sizes[name])]
    if wrong:
        declared = ", ".join(f"{name}={place.size(name)}" for name in wrong)
        seen = ", ".join(f"{name}={sizes[name]}" for name in wrong)
        foreign.refuse(f"contradicts {place.where}: that says {declared}, and its tensors {seen}")


def _by_echoself_converter(foreign: TorchFile) -> bool:
    """Its config.json has a number of heads of its own; training_metadata.json has the trainer's."""
    return "echo_self_version" in read_json(foreign.path.parent / "config.json")


def _listed(heads: Mapping[str, int]) -> str:
    return ", ".join(f"n_head={count} in {where}" for where, count in heads.items())
