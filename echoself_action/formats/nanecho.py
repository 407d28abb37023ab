"""NanEcho's `.pt` files (github.com/9cog/echoself, nanecho_model.py and its trainers), checked and in our names; and back.

Our NanEcho has the original's names and orientation, so the tensors stay as they are. Where every extra is off and every
connection is there, the model is a GPT-2 in other words, and becomes one.
"""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from ..checkpoint.arrays import Array, as_float32
from ..checkpoint.nanecho_config import config_problems, parameters, shapes
from ..model.config import GPT2Config
from ..model.nanecho import PERSONA_DIMENSIONS, NanEchoConfig
from .detect_layout import number
from .imported_model import MOMENTS, ImportedModel, check_moments, check_weights, state_of, tie
from .recorded_config import beside, inside, losses_of, step_of, training_settings
from .reference_logits import as_tensors, nanecho_logits
from .torch_file.reader import TorchFile

_Numbers = TypeVar("_Numbers", Array, Tensor)
TOKENS = "token_embedding.weight"
CAUSAL_MASKS = ".attn.mask"  # a buffer of ones: it is made anew
_BLOCK = re.compile(r"blocks\.(\d{1,6})\.")
FLAGS = {
    "enable_persona_dimensions": "persona_dims",
    "enable_recursive_reasoning": "recursive",
    "enable_hypergraph_patterns": "hypergraph",
}
# What of a config is a number with a point.
_NUMBERS = (
    *("initial_connections", "connection_growth_rate", "max_connections", "attention_threshold_min", "dropout"),
    *("attention_threshold_max", "cognitive_load_factor", "recursion_decay", "pattern_injection_rate"),
)
_LEGACY = (
    "it keeps the original's arithmetic (legacy: true): its logits depend on later tokens, on current_iteration, and its "
    "training shifted the labels twice, so that it predicts the token after the next"
)
_FOLDED = (
    "every extra of NanEcho is off in it, so it became a stock GPT-2; its training shifted the labels twice, so that it "
    "predicts the token after the next"
)
# GPT-2's name of each tensor of a block that it has, and whether nn.Linear keeps it the other way round.
_GPT2_NAMES = {
    "ln1": ("ln_1", False),
    "attn.qkv": ("attn.c_attn", True),
    "attn.out_proj": ("attn.c_proj", True),
    "ln2": ("ln_2", False),
    "mlp.0": ("mlp.c_fc", True),
    "mlp.2": ("mlp.c_proj", True),
}


def read(foreign: TorchFile, n_head: int | None = None) -> ImportedModel:
    """Check everything against what the file declares; `n_head` is for files that do not say it.

    Raises CheckpointError where the file contradicts itself.
    """
    content = foreign.content
    declared = _declared(foreign, n_head)
    stored = {name: tensor for name, tensor in foreign.weights.items() if not name.endswith(CAUSAL_MASKS)}
    tie(foreign, stored, TOKENS)
    config = _config(foreign, declared, stored)
    weights = check_weights(foreign, stored, shapes(config), "its config")
    moments = _moments(foreign, config, weights, content.get("optimizer_state_dict"))
    run = [content.get(key) for key in ("config", "training_config", "training_run_config", "data_config")]
    settings = {name: value for place in run for name, value in training_settings(place).items()}
    settings |= _data_dir(content.get("data_config"))
    step = step_of(foreign) or 0
    train_loss, best = losses_of(foreign)
    logits = partial(_logits, config, weights)
    vocabulary = _vocabulary(content, config.vocab_size)
    if not _is_gpt2(config, weights):
        return ImportedModel(
            foreign.origin, config, weights, logits, moments, step, best, settings, vocabulary, (_LEGACY,), train_loss
        )
    gpt2 = GPT2Config(
        vocab_size=config.vocab_size,
        block_size=config.block_size,
        n_layer=config.n_layer,
        n_head=config.n_head,
        n_embd=config.n_embd,
        dropout=config.dropout,
        activation="gelu",
    )
    folded = {ours: turned(weights[name], turn) for name, ours, turn in gpt2_names(config) if name in weights}
    carried = {
        f"{kind}.{ours}": turned(moments[f"{kind}.{name}"], turn and kind != "steps")
        for name, ours, turn in gpt2_names(config)
        for kind in (*MOMENTS, "steps")
        if f"{kind}.{name}" in moments
    }
    places = {name for name, _, _ in gpt2_names(config)}
    spare = {name: tensor for name, tensor in weights.items() if name not in places and "mask" not in name}
    return ImportedModel(
        foreign.origin, gpt2, folded, logits, carried, step, best, settings, vocabulary, (_FOLDED,), train_loss, spare
    )


def gpt2_names(config: NanEchoConfig | GPT2Config) -> list[tuple[str, str, bool]]:
    """(NanEcho's name, GPT-2's name, whether the matrix is turned) of every tensor that GPT-2 has."""
    names = [(TOKENS, "transformer.wte.weight", False), ("position_embedding.weight", "transformer.wpe.weight", False)]
    for layer in range(config.n_layer):
        for name, (ours, turn) in _GPT2_NAMES.items():
            names.append((f"blocks.{layer}.{name}.weight", f"transformer.h.{layer}.{ours}.weight", turn))
            names.append((f"blocks.{layer}.{name}.bias", f"transformer.h.{layer}.{ours}.bias", False))
    return [*names, *((f"ln_f.{kind}", f"transformer.ln_f.{kind}", False) for kind in ("weight", "bias"))]


def turned(tensor: _Numbers, turn: bool) -> _Numbers:
    """A matrix the other way round, where `turn` says so."""
    return tensor.T if turn else tensor


def _logits(config: NanEchoConfig, weights: Mapping[str, Array], ids: Tensor) -> Tensor:
    return nanecho_logits(config, as_tensors(weights), ids)


def _declared(foreign: TorchFile, n_head: int | None) -> dict[str, Any]:
    """What the file says of its model; what lies beside it and the caller say only what it does not."""
    fallback = {} if n_head is None else {"n_head": n_head}
    # the fuller config of two wins: train_nanecho's `config` is its trainer's
    said = sorted(inside(foreign), key=lambda place: place.where == "its model_config")
    places = [fallback, *(place.values for place in reversed(beside(foreign.path))), *(place.values for place in said)]
    return {str(key): value for place in places for key, value in place.items()}


def _config(foreign: TorchFile, declared: Mapping[str, Any], stored: Mapping[str, Array]) -> NanEchoConfig:
    sizes = _sizes(foreign, declared, stored)
    parts = {match[1] for name in stored if (match := re.match(r"blocks\.\d+\.(\w+)\.", name))}
    flags: dict[str, Any] = {flag: part in parts for flag, part in FLAGS.items()}
    dimensions = list(dict.fromkeys(match[1] for name in stored if (match := re.search(r"\.persona_dims\.([^.]+)\.", name))))
    named = _strings(declared.get("persona_dimensions"))
    order = [name for name in named if name in dimensions] or dimensions
    depths = [len(tensor) for name, tensor in stored.items() if name.endswith("depth_controller.bias")]
    weights = declared.get("dimension_weights")
    if not isinstance(weights, Mapping):  # an equal share for each that the config names: older versions made four of the eight
        every = named or (PERSONA_DIMENSIONS if set(dimensions) <= set(PERSONA_DIMENSIONS) else dimensions)
        weights = dict.fromkeys(every, 1 / len(every))
    given: dict[str, Any] = {name: found for name in _NUMBERS if (found := number(declared.get(name))) is not None}
    for name in ("min_recursion_depth", "connection_growth_interval"):
        if type(declared.get(name)) is int:
            given[name] = declared[name]
    run = foreign.content.get("training_run_config")
    if isinstance(run, Mapping) and type(run.get("connection_growth_interval")) is int:
        given["connection_growth_interval"] = run["connection_growth_interval"]
    config = NanEchoConfig(
        **sizes | flags | given,
        bias="blocks.0.attn.qkv.bias" in stored,
        enable_adaptive_attention=declared.get("enable_adaptive_attention", True) is not False,
        persona_dimensions=[*order, *(name for name in dimensions if name not in order)] or list(PERSONA_DIMENSIONS),
        dimension_weights=_dimension_weights(weights),
        max_recursion_depth=depths[0] if depths else 5,
        current_iteration=_iteration(foreign),
        legacy=True,
    )
    if problems := config_problems(config):
        foreign.refuse(f"describes a model that can't be computed: {'; '.join(problems)}")
    for flag, present in flags.items():
        if type(declared.get(flag)) is bool and declared[flag] != present and (present or config.persona_dimensions):
            foreign.refuse(f"says {flag}={declared[flag]}, and its tensors say otherwise")
    return config


def _sizes(foreign: TorchFile, declared: Mapping[str, Any], stored: Mapping[str, Array]) -> dict[str, Any]:
    """Told by the tensors, but for the number of heads; what is declared must be the same."""
    tokens, positions = stored.get(TOKENS), stored.get("position_embedding.weight")
    layers = {int(match[1]) for name in stored if (match := _BLOCK.match(name))}
    if tokens is None or positions is None or tokens.ndim != 2 or positions.ndim != 2 or not layers:
        foreign.refuse("has no token_embedding, no position_embedding or no blocks, and a NanEcho has all three")
    heads = declared.get("n_head")
    if type(heads) is not int or heads < 1:
        foreign.refuse(
            "does not say how many heads its attention has (n_head), and the tensors don't tell",
            "Give n_head, or put a config.json that says n_head beside the file.",
        )
    sizes = {
        "vocab_size": tokens.shape[0],
        "n_embd": tokens.shape[1],
        "block_size": positions.shape[0],
        "n_layer": max(layers) + 1,
        "n_head": heads,
    }
    wrong = [f"{name}={declared[name]} and has {size}" for name, size in sizes.items() if declared.get(name, size) != size]
    if wrong or len(layers) != sizes["n_layer"]:
        foreign.refuse(
            f"says {', '.join(wrong)}" if wrong else f"has {len(layers)} blocks, of which one is number {max(layers)}"
        )
    return sizes


def _moments(foreign: TorchFile, config: NanEchoConfig, weights: Mapping[str, Array], optimizer: Any) -> dict[str, Array]:
    """AdamW's state by parameter name: one group of all parameters. Those that never had a gradient have none."""
    state = state_of(optimizer)
    if state is None:
        return {}
    order = parameters(config)
    found: dict[str, Any] = {}
    counts: dict[str, Array] = {}
    try:
        fits = [list(group["params"]) for group in optimizer["param_groups"]] == [list(range(len(order)))]
        for index, held in state.items():
            name = order[index]
            found |= {f"{moment}.{name}": held[moment] for moment in MOMENTS}
            steps = number(held["step"])
            fits = fits and steps is not None and steps >= 0
            counts[f"steps.{name}"] = np.array(steps or 0.0, np.float32)
    except (AttributeError, TypeError, KeyError, ValueError, IndexError):
        fits = False
    if not fits:
        foreign.refuse("has an optimizer state that is not NanEcho's AdamW of this model")
    check_moments(foreign, found, weights)
    return found | counts


def _is_gpt2(config: NanEchoConfig, weights: Mapping[str, Array]) -> bool:
    extras = config.enable_adaptive_attention or any(getattr(config, flag) for flag in FLAGS)
    masks = [as_float32(tensor) for name, tensor in weights.items() if name.endswith(".mask")]
    return not extras and all(bool((mask == 1).all()) for mask in masks)


def _vocabulary(content: Mapping[Any, Any], vocab_size: int) -> str | None:
    """The tokenizer that the file names, where it can be the model's."""
    named = content.get("tokenizer")
    name = named.get("name") if isinstance(named, Mapping) else None
    return "gpt2" if isinstance(name, str) and name == "gpt2" and vocab_size >= 50257 else None


def _data_dir(data: object) -> dict[str, str]:
    """Where its trainer looked for the data, by which it knows its own checkpoints; not where that is on one machine alone."""
    place = data.get("data_dir") if isinstance(data, Mapping) else None
    return {"data_dir": place} if isinstance(place, str) and not place.startswith("/") else {}


def _iteration(foreign: TorchFile) -> int:
    """What the logits depend on: where the model's own counter stood, or else the step."""
    found = foreign.content.get("current_iteration")
    return found if type(found) is int and 0 <= found < 1 << 53 else step_of(foreign) or 0


def _strings(value: object) -> list[str]:
    return [name for name in value if isinstance(name, str)] if isinstance(value, list | tuple) else []


def _dimension_weights(weights: Mapping[Any, Any]) -> dict[str, float]:
    return {str(name): found for name, weight in weights.items() if (found := number(weight)) is not None}
