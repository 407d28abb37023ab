"""NanEcho in a model folder: its config.json, the tensors of the weights file, and its code file."""

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
from .architectures import NANECHO, NANECHO_PATHS, DimensionNames
from .arrays import Array
from .gpt2_config import LARGEST_SIZE, other_code

MODELING_FILE = next(iter(NANECHO.code_files))
_MODULE = MODELING_FILE.removesuffix(".py")
_SIZES = ("n_layer", "n_head", "n_embd", "block_size", "vocab_size")
_AUTO_MAP = {"AutoConfig": f"{_MODULE}.NanEchoConfig", "AutoModelForCausalLM": f"{_MODULE}.NanEchoForCausalLM"}
TIED: Mapping[str, str] = {}
_BUFFERS = (".mask", "._current_ratio_tensor")
_SHOWN = 60  # maximum characters of an invalid value in a message
_Size = Annotated[int, Field(ge=1, le=LARGEST_SIZE)]
_Steps = Annotated[int, Field(ge=0, lt=1 << 53)]
_Share = Annotated[float, Field(ge=0, le=1)]


class _Settings(BaseModel):
    """The type and range of each setting of NanEchoConfig, which transformers does not validate."""

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
    """The configuration of a new model. Its connections and its recursion depth grow over `max_iters` steps.

    `options` may have `persona_dimensions` and `nanecho_paths`: the paths that it has, by default all.
    """
    paths = options.get("nanecho_paths")
    enabled: dict[str, Any] = {f"enable_{name}": paths is None or name in paths for name in NANECHO_PATHS}
    return NanEchoConfig(**sizes, **enabled, persona_dimensions=options.get("persona_dimensions")).growing_over(max_iters)


def write_config(config: NanEchoConfig, end_of_text_id: int | None) -> dict[str, Any]:
    """The config.json: the settings of NanEchoConfig and the names of its classes in the code file."""
    return {name: getattr(config, name) for name in _OWN} | {
        "architectures": ["NanEchoForCausalLM"],
        "auto_map": _AUTO_MAP,
        "model_type": "nanecho",
        "dtype": "float32",
        "bos_token_id": end_of_text_id,
        "eos_token_id": end_of_text_id,
        "pad_token_id": end_of_text_id,
    }


def read_config(path: Path, values: Mapping[str, Any]) -> NanEchoConfig:
    """The config of `values`, the config.json at `path`. Raises CheckpointError if it is not a valid NanEcho config."""
    if missing := [name for name in _SIZES if name not in values]:
        raise CheckpointError(f"{path} has no {', '.join(missing)}, which a NanEcho model needs. The folder was not used.")
    other = other_code(values)
    other += [f"auto_map={values['auto_map']}"] if values.get("auto_map", _AUTO_MAP) != _AUTO_MAP else []
    if other:
        raise CheckpointError(
            f"{path} makes transformers run code that is not NanEcho's: {', '.join(other)[:200]}. It was not used, and no code "
            "was run.",
            "Use a model that was published by this program.",
        )
    try:
        config = NanEchoConfig(**{name: values[name] for name in _OWN if name in values})
    except (ValueError, TypeError) as error:  # huggingface_hub's strict dataclasses raise these
        raise CheckpointError(f"{path} is not a valid NanEcho config: {_one_line(error)}. The folder was not used.") from error
    if problems := config_problems(config):
        raise CheckpointError(
            f"{path} is not a valid NanEcho config: {'; '.join(problems)}. The folder was not used.",
            "Pull the model again, or use another checkpoint.",
        )
    return config


def config_problems(config: NanEchoConfig) -> list[str]:
    """The invalid and contradictory settings of `config`, as text; empty if it is valid."""
    try:
        _Settings.model_validate(config)
    except ValidationError as error:
        return [f"{wrong['loc'][0]}={str(wrong['input'])[:_SHOWN]}: {_uncapitalized(wrong['msg'])}" for wrong in error.errors()]
    problems = []
    if config.n_embd % config.n_head:
        problems.append(f"n_embd={config.n_embd} not divisible by n_head={config.n_head}")
    if config.enable_hypergraph_patterns and config.n_embd % 4:
        problems.append(f"n_embd={config.n_embd} not divisible by 4, the number of heads of the hypergraph attention")
    if config.min_recursion_depth > config.max_recursion_depth:
        problems.append(
            f"min_recursion_depth={config.min_recursion_depth} above max_recursion_depth={config.max_recursion_depth}"
        )
    if config.initial_connections > config.max_connections:
        problems.append(f"initial_connections={config.initial_connections} above max_connections={config.max_connections}")
    return problems


def shapes(config: NanEchoConfig) -> dict[str, tuple[int, ...]]:
    """The shapes of the model's tensors in the order of its state dict."""
    return dict(_shapes(json.dumps(write_config(config, None))))


def parameters(config: NanEchoConfig) -> list[str]:
    """The names of the trained tensors, in the order of the state dict."""
    return [name for name in shapes(config) if not name.endswith(_BUFFERS)]


@lru_cache(maxsize=4)
def _shapes(settings: str) -> dict[str, tuple[int, ...]]:
    """The shapes for these settings (JSON). Cached, because even a model on the meta device takes time to build."""
    values = json.loads(settings)
    with torch.device("meta"):
        model = NanEchoForCausalLM(NanEchoConfig(**{name: values[name] for name in _OWN}))
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def fewest_tensors(config: NanEchoConfig) -> int:
    """A lower bound of the number of tensors."""
    layers = config.n_layer
    recursive = (layers - layers // 2) * config.max_recursion_depth if config.enable_recursive_reasoning else 0
    persona = (layers - layers // 4) * len(config.persona_dimensions or []) if config.enable_persona_dimensions else 0
    return layers + recursive + persona


def stored_names(keys: Iterable[str]) -> dict[str, str]:
    """Our name of each tensor in a file -> its name there."""
    return {key: key for key in keys}


def is_spare(config: NanEchoConfig, name: str) -> bool:  # noqa: ARG001  # see ConfigModule
    """Whether a file may contain this additional tensor: never."""
    return False


def stored_tensors(config: NanEchoConfig, weights: "Mapping[str, Array | Tensor]") -> "dict[str, Array | Tensor]":  # noqa: ARG001
    """The tensors of the file: the state dict."""
    return dict(weights)


def flops_per_token(config: NanEchoConfig) -> None:
    """None: they depend on the number of connections at a step."""


def card_text(config: NanEchoConfig) -> str:
    """The section of the model card: that loading the model runs its code, and which extras it has."""
    depth = f"recursive reasoning, {config.recursion_depth} deep at step {config.current_iteration}"
    parts = {
        "adaptive attention": config.enable_adaptive_attention,
        f"persona dimensions ({', '.join(config.persona_dimensions or ())})": config.enable_persona_dimensions,
        depth: config.enable_recursive_reasoning,
        "hypergraph patterns": config.enable_hypergraph_patterns,
    }
    text = f"""
transformers does not include the NanEcho architecture, so the model comes with its code, `{MODELING_FILE}`. Loading it needs
`trust_remote_code=True`, which runs that file. Review it first; it imports only torch and transformers.

Enabled extras: {", ".join(name for name, on in parts.items() if on) or "none"}.
"""
    if config.legacy:
        text += """
**It computes what the program that trained it computed** (`legacy: true`): it is not causal, so its logits depend on later
tokens, and it was trained to predict the token after the next one. Its samples are therefore worse than its loss suggests.
"""
    return text


def _uncapitalized(message: str) -> str:
    return message[0].lower() + message[1:]


def _one_line(error: Exception) -> str:
    return json.dumps(" ".join(str(error).split())[:300])[1:-1]
