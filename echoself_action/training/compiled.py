"""torch.compile: whether a machine can, whether it pays, and what is compiled.

Compiled code rounds otherwise than PyTorch's own operations, so whether a run is compiled belongs to its state: what goes on
exactly goes on compiled. The compiler is loaded only where something is compiled: it takes as long as PyTorch itself.
"""

import functools
import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ..checkpoint.architectures import architecture_of
from ..model import Model
from ..model.cross_entropy import chunk_gradients, into_gradient, linear_cross_entropy
from ..model.gpt2 import GPT2, Transformer

Loss = Callable[[Tensor, Tensor], Tensor]
Trunk = Callable[[Tensor], Tensor]  # `Transformer.from_embeddings`

# What compiling takes, and what it spares of a step. On a CPU both were measured (docs/performance.md): matrix products take
# most of a wider model's step, and they stay what they are. On a GPU they are an estimate.
_SECONDS = 45.0
_SPARES_OF_GPU, _SPARES_OF_CPU, _WIDEST_ON_CPU = 0.25, 0.08, 256
_REPAID = 2  # times: the estimate may be wrong


def why_not(model: Model, device: torch.device, sharded: bool) -> str | None:
    """What keeps this model from being compiled on this machine, in words; None where nothing does."""
    if not architecture_of(model.config).accelerated:
        return "it is for architecture: gpt2"
    if sharded:
        return "with sharding: full the weights of a block come and go"
    if device.type == "cuda":
        triton = importlib.util.find_spec("triton") is not None
        if not triton or torch.cuda.get_device_capability(device)[0] < 7:
            return "it takes Triton, and a GPU of compute capability 7.0 or more"
        return _without_compiler("CC", ("gcc", "clang"))
    if model.config.dropout:
        return "on a CPU it takes dropout: 0, for a model that is compiled can't draw in two threads"
    if not (Path(torch.__file__).parent / "include").is_dir():
        return "this installation of PyTorch has no headers"
    return _without_compiler("CXX", ("g++",))


def pays(model: Model, device: torch.device, seconds_to_go: float) -> bool:
    """Whether compiling repays what it takes, where steps alone would take `seconds_to_go`."""
    spares = _SPARES_OF_GPU
    if device.type == "cpu":
        spares = _SPARES_OF_CPU if model.config.n_embd <= _WIDEST_ON_CPU else 0.0
    return spares * seconds_to_go > _REPAID * _SECONDS


def compiled_trunk(transformer: Transformer) -> Trunk:
    """`transformer.from_embeddings`, for training. The first call for each shape of its argument compiles, in this thread
    alone, and may raise whatever the compiler raises."""
    on_gpu = transformer.wte.weight.device.type == "cuda"
    # without Python between its operations it leaves two threads alone with each other's
    return torch.compile(transformer.from_embeddings, dynamic=False, options=None if on_gpu else {"cpp_wrapper": True})


def compiled_loss(model: GPT2) -> Loss:
    """`model.loss`, for training on a GPU; it compiles as `compiled_trunk` does."""
    trunk = compiled_trunk(model.transformer)
    own = functools.partial(chunk_gradients, into_gradient=torch.compile(into_gradient, dynamic=False))
    tokens = model.transformer.wte

    def loss(ids: Tensor, targets: Tensor) -> Tensor:
        x = trunk(tokens(ids)).flatten(0, 1)
        return linear_cross_entropy(x, tokens.weight, targets.flatten(), by=own)

    return loss


def _without_compiler(variable: str, names: tuple[str, ...]) -> str | None:
    named = os.environ.get(variable)
    if any(shutil.which(name) for name in ((named,) if named else names)):
        return None
    return f"it takes a compiler, and there is no {named or ' or '.join(names)} on the PATH"
