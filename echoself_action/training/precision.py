"""The device and the dtype of a run, and synchronisation with the GPU."""

import re
from dataclasses import dataclass
from typing import get_args

import torch

from .. import native
from ..errors import InputError
from .settings import Dtype, TrainingSettings

# Peak dense bfloat16 or float16 FLOP/s from the vendor's data sheets. The first name that is in the GPU's name applies.
_PEAKS = {
    "B200": 2250e12, "H200": 989e12, "H100 PCIe": 756e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L40": 181e12,
    "L4": 121e12, "A10G": 70e12, "A10": 125e12, "V100": 125e12, "T4": 65e12,
}  # fmt: skip


@dataclass(frozen=True)
class Precision:
    """A device, and the dtype of matrix products under autocast (float32: autocast is off)."""

    device: torch.device
    dtype: torch.dtype

    @property
    def device_name(self) -> str:
        """`CPU`, or the name of the GPU."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type.upper()

    @property
    def peak(self) -> float | None:
        """The peak FLOP/s of the device in this dtype; None if unknown."""
        return None if self.dtype is torch.float32 else peak_flops(self.device_name)

    @property
    def dtype_name(self) -> str:
        """`bfloat16`, `float16` or `float32`."""
        return name_of(self.dtype)

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not torch.float32)


def name_of(dtype: torch.dtype) -> str:
    """The name of a dtype in settings and files: `bfloat16` for torch.bfloat16."""
    return str(dtype).removeprefix("torch.")


def peak_flops(device_name: str) -> float | None:
    """The peak bfloat16 or float16 FLOP/s of a GPU with this name; None if unknown."""
    return next((peak for name, peak in _PEAKS.items() if re.search(rf"\b{name}\b", device_name)), None)


class CudaThrottle:
    """Limits the CPU to one step ahead of a GPU, whose kernels run asynchronously.

    The GPU always has work queued, and wall-clock time measures its steps. No effect on a CPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._step: torch.cuda.Event | None = None

    def after_step_submitted(self, synchronize: bool) -> bool:
        """Wait for the previous step, or for this one too if `synchronize`.

        Returns whether the elapsed time covers a whole step: false for the first step after a synchronisation.
        """
        if self._device.type != "cuda":
            return True
        before, step = self._step, torch.cuda.Event()  # type: ignore[no-untyped-call]
        step.record()
        if before and not synchronize:
            before.synchronize()
        if synchronize:
            step.synchronize()
        self._step = None if synchronize else step
        return synchronize or before is not None


def choose_device(settings: TrainingSettings) -> torch.device:
    """The device of the settings; `auto` is a GPU if one is available. Raises InputError if `cuda` is set without one."""
    has_cuda = torch.cuda.is_available()
    if settings.device == "cuda" and not has_cuda:
        raise InputError(
            "device: cuda was set, and PyTorch finds no CUDA device. Nothing was trained.",
            "Use device: auto, or a runner with a GPU and a CUDA build of PyTorch.",
        )
    return torch.device("cuda" if has_cuda and settings.device != "cpu" else "cpu")


def no_gpu_reason(settings: TrainingSettings) -> str | None:
    """Why `device: auto` is the CPU with a PyTorch that could use a GPU; None in all other cases."""
    if settings.device != "auto" or torch.version.cuda is None or torch.cuda.is_available():
        return None
    return f"PyTorch's build for CUDA {torch.version.cuda} finds no GPU: none here, or its driver is too old"


def choose_precision(settings: TrainingSettings, trained_in: str | None = None) -> Precision:
    """The device and dtype of the settings. `dtype: auto` is the dtype that the model was `trained_in` so far, if the device
    supports it, else `fastest_dtype`.

    Raises InputError if CUDA was requested and is not available.
    """
    device = choose_device(settings)
    if settings.dtype != "auto":
        return Precision(device, getattr(torch, settings.dtype))
    if trained_in and trained_in in get_args(Dtype) and _can_compute(device, kept := getattr(torch, trained_in)):
        return Precision(device, kept)
    return Precision(device, fastest_dtype(device))


def fastest_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 if the hardware supports it, else float16 on a GPU with float16 tensor cores, else float32.

    Raises InputError if ECHOSELF_ISA names an instruction set that can't be used here.
    """
    if device.type == "cuda":
        generation = torch.cuda.get_device_capability()[0]  # 8: Ampere; 7: Volta and Turing, float16 only
        return {8: torch.bfloat16, 7: torch.float16}.get(min(generation, 8), torch.float32)
    if by_native := native.fastest_dtype():
        return by_native
    capabilities = torch.cpu.get_capabilities()
    fast = any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return torch.bfloat16 if fast else torch.float32


def _can_compute(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether `dtype: auto` may keep this dtype on the device: also a slow bfloat16, but not float16 on a CPU."""
    if device.type == "cuda":
        return dtype is not torch.bfloat16 or torch.cuda.is_bf16_supported()
    return dtype is not torch.float16
