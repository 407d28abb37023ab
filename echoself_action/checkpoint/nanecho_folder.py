"""NanEcho in a model folder: its config.json, and the file that transformers runs to load it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import CheckpointError
from ..model import nanecho
from ..model.nanecho import NanEchoConfig, NanEchoForCausalLM

MODELING_FILE = "modeling_nanecho.py"
REMOTE_CODE: Mapping[str, bytes] = {MODELING_FILE: Path(nanecho.__file__).read_bytes()}
_SIZES = ("n_layer", "n_head", "n_embd", "block_size", "vocab_size")
_AUTO_MAP = {"AutoConfig": "modeling_nanecho.NanEchoConfig", "AutoModelForCausalLM": "modeling_nanecho.NanEchoForCausalLM"}
_OWN = [field.name for field in fields(NanEchoConfig) if field.name in NanEchoConfig.__annotations__]


def new_model(config: NanEchoConfig) -> NanEchoForCausalLM:
    """The model, its weights still unset."""
    return NanEchoForCausalLM(config)


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
    if values.get("auto_map", _AUTO_MAP) != _AUTO_MAP:
        raise CheckpointError(
            f"{path} asks transformers to run other code than NanEcho's: {str(values['auto_map'])[:200]}. It was not used, and "
            "nothing was run.",
            "Use a model that this program published.",
        )
    try:
        config = NanEchoConfig(**{name: values[name] for name in _OWN if name in values})
    except (ValueError, TypeError) as error:  # huggingface_hub's strict dataclasses raise these
        raise CheckpointError(f"{path} is no NanEcho config: {_one_line(error)}. The folder was not used.") from error
    if problems := config_problems(config):
        raise CheckpointError(
            f"{path} describes a model that can't be computed: {'; '.join(problems)}. The folder was not used.",
            "Pull it again, or use another checkpoint.",
        )
    return config


def config_problems(config: NanEchoConfig) -> list[str]:
    """What in `config` contradicts itself, in words; none where it describes a model."""
    problems = [f"{name}={getattr(config, name)}" for name in _SIZES if getattr(config, name) < 1]
    if not problems and config.n_embd % config.n_head:
        problems.append(f"n_embd={config.n_embd} not divisible by n_head={config.n_head}")
    if not problems and config.enable_hypergraph_patterns and config.n_embd % 4:
        problems.append(f"n_embd={config.n_embd} not divisible by the 4 heads of the hypergraph's attention")
    if not 1 <= config.min_recursion_depth <= config.max_recursion_depth:
        problems.append(f"recursion depths {config.min_recursion_depth} to {config.max_recursion_depth}")
    if config.recursion_growth_steps < 1 or config.connection_growth_interval < 1:
        problems.append("a schedule of no steps")
    if not 0 < config.initial_connections <= config.max_connections <= 1:
        problems.append(f"connections from {config.initial_connections} to {config.max_connections}")
    return problems


def stored_names(keys: Iterable[str]) -> dict[str, str]:
    """Our name of each tensor in a file -> its name there."""
    return {key: key for key in keys}


def is_spare(config: NanEchoConfig, name: str) -> bool:  # noqa: ARG001  # as for every architecture
    """Whether a file may hold this tensor beside the model's. None."""
    return False


def completed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the file: those of the model."""
    return dict(weights)


def _one_line(error: Exception) -> str:
    return json.dumps(" ".join(str(error).split())[:300])[1:-1]
