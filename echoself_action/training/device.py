"""Where and in which precision a run computes."""

from dataclasses import dataclass

import torch

from ..errors import InputError
from .settings import TrainingSettings


@dataclass(frozen=True)
class Precision:
    """A device, and the dtype that autocast computes matrix products in (float32: no autocast)."""

    device: torch.device
    dtype: torch.dtype

    @property
    def device_name(self) -> str:
        """`CPU`, or what the GPU calls itself."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type.upper()

    def wait(self) -> None:
        """Until the device has done all that it was given. A GPU is given work ahead, and a clock would measure the giving."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not torch.float32)


def choose_precision(settings: TrainingSettings) -> Precision:
    """`auto` takes a GPU where there is one, and bfloat16 where the device multiplies it in hardware.

    Raises InputError where CUDA is asked for and absent.
    """
    has_cuda = torch.cuda.is_available()
    if settings.device == "cuda" and not has_cuda:
        raise InputError(
            "device: cuda was asked for, and PyTorch sees no CUDA device here. Nothing was trained.",
            "Use device: auto, or a runner with a GPU and a CUDA build of PyTorch.",
        )
    device = torch.device("cuda" if has_cuda and settings.device != "cpu" else "cpu")
    if settings.dtype != "auto":
        return Precision(device, getattr(torch, settings.dtype))
    if device.type == "cuda":
        fast = torch.cuda.get_device_capability()[0] >= 8  # Ampere and newer
    else:
        capabilities = torch.cpu.get_capabilities()
        fast = any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return Precision(device, torch.bfloat16 if fast else torch.float32)
