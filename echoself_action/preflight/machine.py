"""The machine: its CPU and native kernels, GPU, memory and disk."""

import os
import platform
import re
from pathlib import Path

import torch

from .. import native
from ..config.inputs import Inputs
from ..errors import EchoselfError, InputError
from ..markdown import counted
from ..report.checks import PreflightCheck, problem, warning
from ..resources import available_memory, free_disk, size_text

_COMPILE = "Install a C compiler (gcc), then install the package again; or run the container image of the action."


def machine_check(inputs: Inputs) -> PreflightCheck:
    """What computes a run on this machine, and the room for it."""
    try:
        kernels = native.best_instruction_set()
    except EchoselfError as error:
        return problem("machine", error)
    gpu = torch.cuda.is_available() and inputs.device != "cpu"
    if inputs.device == "cuda" and not gpu:
        hint = "Use device: auto, or a runner with a GPU and a CUDA build of PyTorch."
        return problem("machine", InputError("device: cuda was set, and PyTorch finds no CUDA device.", hint))
    parts = [f"{cpu_name()}, {counted(cpu_count(), 'CPU')}"]
    if gpu:
        room = torch.cuda.get_device_properties(0).total_memory
        parts.append(f"GPU {torch.cuda.get_device_name(0)} with {size_text(room)}")
    else:
        parts.append("no GPU" if inputs.device != "cpu" else "no GPU used (device: cpu)")
    parts.append(f"native kernels {kernels}" if kernels else "no native kernels")
    parts.append(f"{size_text(available_memory())} of memory, {size_text(free_disk(inputs.output_dir))} of disk free")
    text = ", ".join(parts)
    if kernels or gpu:
        return PreflightCheck("machine", text)
    reason = native.load_error() or "this CPU has none of the instruction sets that they were compiled for"
    return warning("machine", f"{text}. Training is slower without native kernels: {reason}.", _COMPILE)


def cpu_name() -> str:
    """The name of the CPU; where the system does not tell it, that of its instruction set."""
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.machine()


def cpu_count() -> int:
    """The logical CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
