"""NanEcho in a model folder: its config.json, and the file that transformers runs to load it."""

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from ..errors import CheckpointError
from ..model.nanecho import NanEchoConfig, NanEchoForCausalLM
from .architectures import NANECHO, DimensionNames
from .arrays import Array
from .gpt2_config import LARGEST_SIZE, other_code

MODELING_FILE = next(iter(NANECHO.code_files))
_MODULE = MODELING_FILE.removesuffix(".py")
_SIZES = ("n_layer", "n_head", "n_embd", "block_size", "vocab_size")
_AUTO_MAP = {"AutoConfig": f"{_MODULE}.NanEchoConfig", "AutoModelForCausalLM": f"{_MODULE}.NanEchoForCausalLM"}
TIED: Mapping[str, str] = {}
_BUFFERS = (".mask", "._current_ratio_tensor")
_SHOWN = 60  # characters of a wrong value
_Size = Annotated[int, Field(ge=1, le=LARGEST_SIZE)]
_Steps = Annotated[int, Field(ge=0, lt=1 << 53)]
_Share = Annotated[float, Field(ge=0, le=1)]


class _Settings(BaseModel):
    """Of what kind each setting of NanEchoConfig is. transformers takes any: a config.json may say anything."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, from_attributes=True)

    vocab_size: _Size
    n_embd: _Size
    n_head: _Size
    n_layer: _Size
    block_size: _Size
    dropout: Annotated[float, Field(ge=0, lt=1)]
    bias: bool
    initial_connections: Annotated[float, Field(gt=0, le=1)]
    connection_growth_rate: _Share
    connection_growth_interval: Annotated[_Steps, Field(ge=1)]
    max_connections: _Share
    connection_seed: int
    enable_adaptive_attention: bool
    enable_persona_dimensions: bool
    enable_recursive_reasoning: bool
    enable_hypergraph_patterns: bool
    persona_dimensions: DimensionNames
    dimension_weights: dict[str, float]
    attention_threshold_min: float
    attention_threshold_max: float
    cognitive_load_factor: float
    min_recursion_depth: _Size
    max_recursion_depth: _Size
    recursion_decay: float
    recursion_growth_steps: Annotated[_Steps, Field(ge=1)]
    pattern_injection_rate: _Share
    pattern_complexity_scaling: bool
    current_iteration: _Steps
    legacy: bool
    use_cache: bool
    tie_word_embeddings: Literal[False]
    bos_token_id: int | None
    eos_token_id: int | list[int] | None


_OWN = list(_Settings.model_fields)


def new_config(sizes: Mapping[str, Any], options: Mapping[str, Any], max_iters: int) -> NanEchoConfig:
    """The configuration of a new model, whose connections and recursion grow over `max_iters` steps."""
    return NanEchoConfig(**sizes, **options).growing_over(max_iters)


def write_config(config: NanEchoConfig, end_of_text_id: int | None) -> dict[str, Any]:
    """The config.json: NanEchoConfig's own settings, and where its code is."""
    return {name: getattr(config, name) for name in _OWN} | {
        "architectures": ["NanEchoForCausalLM"],
        "auto_map": _AUTO_MAP,
        "model_type": "nanecho",
        "dtype": "float32",
        "bos_token_id": end_of_text_id,
        "eos_token_id": end_of_text_id,
    }


def read_config(path: Path, values: Mapping[str, Any]) -> NanEchoConfig:
    """Raises CheckpointError where `values`, the config.json at `path`, are no NanEcho model's."""
    if missing := [name for name in _SIZES if name not in values]:
        raise CheckpointError(f"{path} has no {', '.join(missing)}, which a NanEcho model needs. The folder was not used.")
    other = other_code(values)
    other += [f"auto_map={values['auto_map']}"] if values.get("auto_map", _AUTO_MAP) != _AUTO_MAP else []
    if other:
        raise CheckpointError(
            f"{path} asks transformers to run other code than NanEcho's: {', '.join(other)[:200]}. It was not used, and "
            "nothing was run.",
            "Use a model that this program published.",
        )
    try:
        config = NanEchoConfig(**{name: values[name] for name in _OWN if name in values})
    except (ValueError, TypeError) as error:  # huggingface_hub's strict dataclasses raise these
        raise CheckpointError(f"{path} is not a valid NanEcho config: {_one_line(error)}. The folder was not used.") from error
    if problems := config_problems(config):
        raise CheckpointError(
            f"{path} describes a model that can't be computed: {'; '.join(problems)}. The folder was not used.",
            "Pull it again, or use another checkpoint.",
        )
    return config


def config_problems(config: NanEchoConfig) -> list[str]:
    """What in `config` contradicts itself, in words; none where it describes a model."""
    try:
        _Settings.model_validate(config)
    except ValidationError as error:
        return [f"{wrong['loc'][0]}={str(wrong['input'])[:_SHOWN]}: {_lowered(wrong['msg'])}" for wrong in error.errors()]
    problems = []
    if config.n_embd % config.n_head:
        problems.append(f"n_embd={config.n_embd} not divisible by n_head={config.n_head}")
    if config.enable_hypergraph_patterns and config.n_embd % 4:
        problems.append(f"n_embd={config.n_embd} not divisible by the 4 heads of the hypergraph's attention")
    if config.min_recursion_depth > config.max_recursion_depth:
        problems.append(f"recursion depths {config.min_recursion_depth} to {config.max_recursion_depth}")
    if config.initial_connections > config.max_connections:
        problems.append(f"connections from {config.initial_connections} to {config.max_connections}")
    return problems


def shapes(config: NanEchoConfig) -> dict[str, tuple[int, ...]]:
    """The model's tensors in the order of its state dict."""
    return dict(_shapes(json.dumps(write_config(config, None))))


def parameters(config: NanEchoConfig) -> list[str]:
    """The names of those that are trained, in the model's order."""
    return [name for name in shapes(config) if not name.endswith(_BUFFERS)]


@lru_cache(maxsize=4)
def _shapes(settings: str) -> dict[str, tuple[int, ...]]:
    """Of the model with these settings, which are asked for several times in a run: even an outline takes its time."""
    values = json.loads(settings)
    with torch.device("meta"):
        model = NanEchoForCausalLM(NanEchoConfig(**{name: values[name] for name in _OWN}))
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def fewest_tensors(config: NanEchoConfig) -> int:
    """At least as many tensors has a file of this model, told without making anything of it."""
    layers = config.n_layer
    recursive = (layers - layers // 2) * config.max_recursion_depth if config.enable_recursive_reasoning else 0
    persona = (layers - layers // 4) * len(config.persona_dimensions or []) if config.enable_persona_dimensions else 0
    return layers + recursive + persona


def stored_names(keys: Iterable[str]) -> dict[str, str]:
    """Our name of each tensor in a file -> its name there."""
    return {key: key for key in keys}


def is_spare(config: NanEchoConfig, name: str) -> bool:  # noqa: ARG001  # as for every architecture
    """Whether a file may hold this tensor beside the model's. None."""
    return False


def stored_tensors(config: NanEchoConfig, weights: "Mapping[str, Array | Tensor]") -> "dict[str, Array | Tensor]":  # noqa: ARG001
    """The tensors of the file: the model's."""
    return dict(weights)


def flops_per_token(config: NanEchoConfig) -> None:
    """Unknown: they depend on the connections that are left at a step."""


def card_text(config: NanEchoConfig) -> str:
    """What a reader of the model card has to know: that loading it runs its code, and what it computes."""
    depth = f"recursive reasoning, {config.recursion_depth} deep at step {config.current_iteration}"
    parts = {
        "adaptive attention": config.enable_adaptive_attention,
        f"persona dimensions ({', '.join(config.persona_dimensions or ())})": config.enable_persona_dimensions,
        depth: config.enable_recursive_reasoning,
        "hypergraph patterns": config.enable_hypergraph_patterns,
    }
    text = f"""
NanEcho is no architecture of transformers: the model comes with its code, `{MODELING_FILE}`, and loading it needs
`trust_remote_code=True`, which runs that file. Read it first; it imports torch and transformers alone.

It has {", ".join(name for name, on in parts.items() if on) or "none of its extras"}.
"""
    if config.legacy:
        text += """
**It keeps the arithmetic of the program that trained it** (`legacy: true`): it is not causal, so its logits depend on later
tokens, and it was trained to predict the token after the next one. Its text is worse than its loss.
"""
    return text


def _lowered(message: str) -> str:
    return message[0].lower() + message[1:]


def _one_line(error: Exception) -> str:
    return json.dumps(" ".join(str(error).split())[:300])[1:-1]
