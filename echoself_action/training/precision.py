"""Where and in which precision a run computes."""

import re
from dataclasses import dataclass
from typing import get_args

import torch

from ..errors import InputError
from .settings import Dtype, TrainingSettings

# Multiplications and additions a second in bfloat16 or float16, dense, by the data sheets: of the first whose name is in the
# GPU's.
_PEAKS = {
    "B200": 2250e12, "H200": 989e12, "H100 PCIe": 756e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L40": 181e12,
    "L4": 121e12, "A10G": 70e12, "A10": 125e12, "V100": 125e12, "T4": 65e12,
}  # fmt: skip


@dataclass(frozen=True)
class Precision:
    """A device, and the dtype that autocast computes matrix products in (float32: no autocast)."""

    device: torch.device
    dtype: torch.dtype

    @property
    def device_name(self) -> str:
        """`CPU`, or what the GPU calls itself."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type.upper()

    @property
    def peak(self) -> float | None:
        """Operations a second that the device can do in this dtype by its data sheet; None where that is not known."""
        return None if self.dtype is torch.float32 else peak_of(self.device_name)

    @property
    def dtype_name(self) -> str:
        """`bfloat16`, `float16` or `float32`."""
        return name_of(self.dtype)

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not torch.float32)


def name_of(dtype: torch.dtype) -> str:
    """A dtype as settings and files write it: `bfloat16` for torch.bfloat16."""
    return str(dtype).removeprefix("torch.")


def peak_of(device_name: str) -> float | None:
    """Operations a second in bfloat16 or float16 of a GPU that calls itself so; None where that is not known."""
    return next((peak for name, peak in _PEAKS.items() if re.search(rf"\b{name}\b", device_name)), None)


class CudaThrottle:
    """Keeps a GPU, which is given its work ahead, no more than a step behind: it always has something to do, and a clock
    shows how long steps take. A CPU is never behind."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._step: torch.cuda.Event | None = None

    def after_step_submitted(self, catches_up: bool) -> bool:
        """Wait for the step before the one that was given, or, where the device `catches_up`, for both. Says whether it was
        long enough for a step: not where there was none before, and none was waited for."""
        if self._device.type != "cuda":
            return True
        before, step = self._step, torch.cuda.Event()  # type: ignore[no-untyped-call]
        step.record()
        if before and not catches_up:
            before.synchronize()
        if catches_up:
            step.synchronize()
        self._step = None if catches_up else step
        return catches_up or before is not None


def choose_device(settings: TrainingSettings) -> torch.device:
    """`auto` is a GPU if there is one. Raises InputError if CUDA was requested and is not available."""
    has_cuda = torch.cuda.is_available()
    if settings.device == "cuda" and not has_cuda:
        raise InputError(
            "device: cuda was set, and PyTorch finds no CUDA device. Nothing was trained.",
            "Use device: auto, or a runner with a GPU and a CUDA build of PyTorch.",
        )
    return torch.device("cuda" if has_cuda and settings.device != "cpu" else "cpu")


def choose_precision(settings: TrainingSettings, trained_in: str | None = None) -> Precision:
    """The device, and the dtype: the one in the settings; with `auto` the one that the model was `trained_in` so far, if this
    device can compute it; else `fastest_dtype`.

    Raises InputError if CUDA was requested and is not available.
    """
    device = choose_device(settings)
    if settings.dtype != "auto":
        return Precision(device, getattr(torch, settings.dtype))
    if trained_in and trained_in in get_args(Dtype) and _can_compute(device, kept := getattr(torch, trained_in)):
        return Precision(device, kept)
    return Precision(device, fastest_dtype(device))


def fastest_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 if the hardware multiplies it, float16 on a GPU that multiplies only that, else float32."""
    if device.type == "cuda":
        generation = torch.cuda.get_device_capability()[0]  # 8: Ampere; 7: Volta and Turing, with float16 alone
        return {8: torch.bfloat16, 7: torch.float16}.get(min(generation, 8), torch.float32)
    capabilities = torch.cpu.get_capabilities()
    fast = any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return torch.bfloat16 if fast else torch.float32


def _can_compute(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether `auto` may keep this dtype here. Slow bfloat16 counts; float16 on a CPU is used only if requested."""
    if device.type == "cuda":
        return dtype is not torch.bfloat16 or torch.cuda.is_bf16_supported()
    return dtype is not torch.float16
