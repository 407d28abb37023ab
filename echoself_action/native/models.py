"""Which models native kernels compute."""

import torch
from torch import nn

from .. import native
from ..model import Model
from ..model.gpt2 import GPT2
from .gpt2 import NativeGPT2
from .nanecho import NativeNanEcho


def why_not(model: nn.Module, dtype: torch.dtype) -> str | None:
    """Why native kernels can't compute this model with products in `dtype` on this machine; None if they can."""
    config = getattr(model, "config", None)
    if not isinstance(model, GPT2) and getattr(config, "model_type", None) != "nanecho":
        return "they need architecture: gpt2 or nanecho"
    if getattr(config, "legacy", False):
        return "they don't compute the arithmetic of a NanEcho with legacy: true"
    parameters = list(model.parameters())
    if any(p.device.type != "cpu" or p.dtype is not torch.float32 or hasattr(p, "to_local") for p in parameters):
        return "they need whole parameters in float32 on a CPU"
    return native.why_not(dtype)


def native_model(model: Model, dtype: torch.dtype) -> NativeGPT2 | NativeNanEcho:
    """What computes `model`, for which `why_not` returned None."""
    return NativeGPT2(model, dtype) if isinstance(model, GPT2) else NativeNanEcho(model, dtype)


def evaluated_natively(model: Model) -> NativeGPT2 | NativeNanEcho | None:
    """For an evaluation of `model` in fp32; None if native kernels can't compute it on this machine."""
    return None if why_not(model, torch.float32) else native_model(model, torch.float32)
