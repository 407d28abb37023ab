"""Reads NanEcho's `.pt` files (github.com/9cog/echoself, nanecho_model.py and its trainers), and maps its names to GPT-2's.

Our NanEcho has the original's names and orientation, so the tensors are not changed. If every extra is disabled and every
connection is present, the model computes the same as a GPT-2, and is imported as one.
"""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from torch import Tensor

from ..checkpoint.arrays import Array, as_float32
from ..checkpoint.nanecho_config import config_problems, parameters, shapes
from ..model.config import GPT2Config
from ..model.nanecho import PERSONA_DIMENSIONS, NanEchoConfig
from .detect_layout import number
from .imported_model import CONTRADICTION, NOTHING_GIVEN, Given, ImportedModel, check_weights, tie
from .learning_phases import phase_text
from .optimizer_state import MOMENTS, Grouping, read_optimizer, stored_optimizer
from .recorded_config import configs_beside, configs_in_file, losses_of, step_of, training_settings
from .reference_logits import as_tensors, nanecho_logits
from .torch_file.reader import TorchFile

_Numbers = TypeVar("_Numbers", Array, Tensor)
TOKENS = "token_embedding.weight"
CAUSAL_MASKS = ".attn.mask"  # a constant buffer, which is not imported
_BLOCK = re.compile(r"blocks\.(\d{1,6})\.")
FLAGS = {
    "enable_persona_dimensions": "persona_dims",
    "enable_recursive_reasoning": "recursive",
    "enable_hypergraph_patterns": "hypergraph",
}
# The fields of a config that are floats.
_NUMBERS = (
    *("initial_connections", "connection_growth_rate", "max_connections", "attention_threshold_min", "dropout"),
    *("attention_threshold_max", "cognitive_load_factor", "recursion_decay", "pattern_injection_rate"),
)
_LEGACY = (
    "it keeps the original's forward pass (legacy: true): its logits depend on later tokens and on current_iteration. It was "
    "trained with labels that were shifted twice, so it predicts the token after the next"
)
_FOLDED = (
    "every extra of NanEcho is disabled in it, so it was imported as a stock GPT-2. It was trained with labels that were "
    "shifted twice, so it predicts the token after the next"
)
# GPT-2's name of each tensor of a block, and whether GPT-2 stores the matrix transposed.
_GPT2_NAMES = {
    "ln1": ("ln_1", False),
    "attn.qkv": ("attn.c_attn", True),
    "attn.out_proj": ("attn.c_proj", True),
    "ln2": ("ln_2", False),
    "mlp.0": ("mlp.c_fc", True),
    "mlp.2": ("mlp.c_proj", True),
}


def read(file: TorchFile, given: Given = NOTHING_GIVEN) -> ImportedModel:
    """Convert the checkpoint, with all tensors checked against its config; `given.n_head` is for files that do not record it.

    Raises CheckpointError if the file contradicts itself, or if the number of heads is unknown.
    """
    content = file.content
    declared = _declared(file, given.n_head)
    stored = {name: tensor for name, tensor in file.weights.items() if not name.endswith(CAUSAL_MASKS)}
    tie(file, stored, TOKENS)
    config = _config(file, declared, stored)
    weights = check_weights(file, stored, shapes(config), "its config")
    order = parameters(config)
    state = read_optimizer(file, stored_optimizer(content), {name: weights[name] for name in order}, (Grouping((order,)),))
    moments = state.moments
    run = [content.get(key) for key in ("config", "training_config", "training_run_config", "data_config")]
    settings = {name: value for place in run for name, value in training_settings(place).items()}
    settings |= _data_dir(content.get("data_config"))
    step = step_of(file) or 0
    train_loss, best = losses_of(file)
    logits = partial(_logits, config, weights)
    vocabulary = _vocabulary(content, config.vocab_size)
    if not _is_gpt2(config, weights):
        return ImportedModel(
            file.origin,
            config,
            weights,
            logits,
            moments,
            step,
            best,
            settings,
            vocabulary,
            remarks=(_LEGACY, *_learning_phase(step, settings, run)),
            train_loss=train_loss,
            optimizer_notes=state.notes,
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
    folded = {
        ours: maybe_transposed(weights[name], transpose) for name, ours, transpose in gpt2_name_map(config) if name in weights
    }
    carried = {
        f"{kind}.{ours}": maybe_transposed(moments[f"{kind}.{name}"], transpose and kind != "steps")
        for name, ours, transpose in gpt2_name_map(config)
        for kind in (*MOMENTS, "steps")
        if f"{kind}.{name}" in moments
    }
    places = {name for name, _, _ in gpt2_name_map(config)}
    spare = {name: tensor for name, tensor in weights.items() if name not in places and "mask" not in name}
    return ImportedModel(
        file.origin,
        gpt2,
        folded,
        logits,
        carried,
        step,
        best,
        settings,
        vocabulary,
        remarks=(_FOLDED,),
        train_loss=train_loss,
        spare=spare,
        optimizer_notes=state.notes,
    )


def _learning_phase(step: int, settings: Mapping[str, Any], run: Sequence[object]) -> tuple[str, ...]:
    """The learning phase of its trainer that the checkpoint is in, if the file records how long the run is."""
    max_iters = settings.get("max_iters")
    if type(max_iters) is not int or max_iters < 1 or not step:
        return ()
    off = any(isinstance(place, Mapping) and place.get("enable_curriculum_learning") is False for place in run)
    return (phase_text(step, max_iters, scales_rate=not off),)


def gpt2_name_map(config: NanEchoConfig | GPT2Config) -> list[tuple[str, str, bool]]:
    """(NanEcho's name, GPT-2's name, whether the matrix is transposed) of every tensor that GPT-2 has."""
    names = [(TOKENS, "transformer.wte.weight", False), ("position_embedding.weight", "transformer.wpe.weight", False)]
    for layer in range(config.n_layer):
        for name, (ours, transpose) in _GPT2_NAMES.items():
            names.append((f"blocks.{layer}.{name}.weight", f"transformer.h.{layer}.{ours}.weight", transpose))
            names.append((f"blocks.{layer}.{name}.bias", f"transformer.h.{layer}.{ours}.bias", False))
    return [*names, *((f"ln_f.{kind}", f"transformer.ln_f.{kind}", False) for kind in ("weight", "bias"))]


def maybe_transposed(tensor: _Numbers, transpose: bool) -> _Numbers:
    """The tensor, or a transposed view of it."""
    return tensor.T if transpose else tensor


def _logits(config: NanEchoConfig, weights: Mapping[str, Array], ids: Tensor) -> Tensor:
    return nanecho_logits(config, as_tensors(weights), ids)


def _declared(file: TorchFile, n_head: int | None) -> dict[str, Any]:
    """The config that the file records; files beside it, and then `n_head`, only add what is missing."""
    fallback = {} if n_head is None else {"n_head": n_head}
    # model_config takes precedence: train_nanecho's `config` is its trainer's
    inside = [place for place in configs_in_file(file) if place.keys]  # the top level has the progress of the run
    recorded = sorted(inside, key=lambda place: place.where == "its model_config")
    places = [fallback, *(place.values for place in reversed(configs_beside(file.path))), *(place.values for place in recorded)]
    return {str(key): value for place in places for key, value in place.items()}


def _config(file: TorchFile, declared: Mapping[str, Any], stored: Mapping[str, Array]) -> NanEchoConfig:
    sizes = _sizes(file, declared, stored)
    parts = {match[1] for name in stored if (match := re.match(r"blocks\.\d+\.(\w+)\.", name))}
    flags: dict[str, Any] = {flag: part in parts for flag, part in FLAGS.items()}
    dimensions = list(dict.fromkeys(match[1] for name in stored if (match := re.search(r"\.persona_dims\.([^.]+)\.", name))))
    named = _strings(declared.get("persona_dimensions"))
    order = [name for name in named if name in dimensions] or dimensions
    depths = [len(tensor) for name, tensor in stored.items() if name.endswith("depth_controller.bias")]
    weights = declared.get("dimension_weights")
    if not isinstance(weights, Mapping):  # equal weights: older versions have modules for four of the eight
        every = named or (PERSONA_DIMENSIONS if set(dimensions) <= set(PERSONA_DIMENSIONS) else dimensions)
        weights = dict.fromkeys(every, 1 / len(every))
    given: dict[str, Any] = {name: found for name in _NUMBERS if (found := number(declared.get(name))) is not None}
    for name in ("min_recursion_depth", "connection_growth_interval"):
        if type(declared.get(name)) is int:
            given[name] = declared[name]
    run = file.content.get("training_run_config")
    if isinstance(run, Mapping) and type(run.get("connection_growth_interval")) is int:
        given["connection_growth_interval"] = run["connection_growth_interval"]
    config = NanEchoConfig(
        **sizes | flags | given,
        bias="blocks.0.attn.qkv.bias" in stored,
        enable_adaptive_attention=declared.get("enable_adaptive_attention", True) is not False,
        persona_dimensions=[*order, *(name for name in dimensions if name not in order)] or list(PERSONA_DIMENSIONS),
        dimension_weights=_dimension_weights(weights),
        max_recursion_depth=depths[0] if depths else 5,
        current_iteration=_iteration(file),
        legacy=True,
    )
    if problems := config_problems(config):
        file.refuse(f"describes a model that can't be computed: {'; '.join(problems)}", CONTRADICTION)
    for flag, present in flags.items():
        if type(declared.get(flag)) is bool and declared[flag] != present and (present or config.persona_dimensions):
            file.refuse(f"records {flag}={declared[flag]}, but its tensors contradict that", CONTRADICTION)
    return config


def _sizes(file: TorchFile, declared: Mapping[str, Any], stored: Mapping[str, Array]) -> dict[str, Any]:
    """The sizes, from the shapes of the tensors except the number of heads; recorded sizes must be the same."""
    tokens, positions = stored.get(TOKENS), stored.get("position_embedding.weight")
    layers = {int(match[1]) for name in stored if (match := _BLOCK.match(name))}
    if tokens is None or positions is None or tokens.ndim != 2 or positions.ndim != 2 or not layers:
        file.refuse(
            "has no token_embedding, no position_embedding or no blocks, which every NanEcho model has",
            "Save the whole of model.state_dict().",
        )
    heads = declared.get("n_head")
    if type(heads) is not int or heads < 1:
        file.refuse(
            "does not record the number of attention heads (n_head), which can't be inferred from its tensors",
            "Give n_head, or put a config.json with n_head beside the file.",
        )
    sizes = {
        "vocab_size": tokens.shape[0],
        "n_embd": tokens.shape[1],
        "block_size": positions.shape[0],
        "n_layer": max(layers) + 1,
        "n_head": heads,
    }
    wrong = [f"{name}={declared[name]} but has {size}" for name, size in sizes.items() if declared.get(name, size) != size]
    if wrong or len(layers) != sizes["n_layer"]:
        file.refuse(
            f"records {', '.join(wrong)}" if wrong else f"has {len(layers)} blocks, but one has the number {max(layers)}",
            CONTRADICTION,
        )
    return sizes


def _is_gpt2(config: NanEchoConfig, weights: Mapping[str, Array]) -> bool:
    extras = config.enable_adaptive_attention or any(getattr(config, flag) for flag in FLAGS)
    masks = [as_float32(tensor) for name, tensor in weights.items() if name.endswith(".mask")]
    return not extras and all(bool((mask == 1).all()) for mask in masks)


def _vocabulary(content: Mapping[Any, Any], vocab_size: int) -> str | None:
    """The tokenizer that the file names, if it can be the model's."""
    named = content.get("tokenizer")
    name = named.get("name") if isinstance(named, Mapping) else None
    return "gpt2" if isinstance(name, str) and name == "gpt2" and vocab_size >= 50257 else None


def _data_dir(data: object) -> dict[str, str]:
    """The trainer's data folder, by which it identifies its checkpoints; empty for an absolute path, which is of one host."""
    place = data.get("data_dir") if isinstance(data, Mapping) else None
    return {"data_dir": place} if isinstance(place, str) and not place.startswith("/") else {}


def _iteration(file: TorchFile) -> int:
    """The iteration that the logits depend on: the model's own counter, otherwise the step."""
    found = file.content.get("current_iteration")
    return found if type(found) is int and 0 <= found < 1 << 53 else step_of(file) or 0


def _strings(value: object) -> list[str]:
    return [name for name in value if isinstance(name, str)] if isinstance(value, list | tuple) else []


def _dimension_weights(weights: Mapping[Any, Any]) -> dict[str, float]:
    return {str(name): found for name, weight in weights.items() if (found := number(weight)) is not None}
