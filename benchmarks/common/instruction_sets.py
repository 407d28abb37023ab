"""The instruction set that all programs of a benchmark are limited to: with `--isa avx2`, any CPU serves as one with AVX2."""

import argparse
import os

import torch

from echoself_action import native
from echoself_action.errors import InputError
from echoself_action.training.precision import fastest_dtype

OURS = "ECHOSELF_ISA"
# What limits PyTorch's own code (and torch.compile), oneDNN, and MKL. They read it when they are first used.
_OTHERS = {
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "avx512": {"ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "MKL_ENABLE_INSTRUCTIONS": "AVX512"},
    "avx512_bf16": {
        "ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16", "MKL_ENABLE_INSTRUCTIONS": "AVX512",
    },
}  # fmt: skip
_OTHERS["avx2_bf16"] = _OTHERS["avx2"]  # its kernels round to bfloat16 with AVX2's instructions


def add_isa(parser: argparse.ArgumentParser) -> None:
    """The option for the instruction set."""
    parser.add_argument(
        "--isa",
        choices=native.DTYPE_NAMES,
        default=os.environ.get(OURS) or None,
        help="limit all programs to this instruction set and train ours in its dtype (default: what this CPU has)",
    )


def limit_to(isa: str | None) -> None:
    """Limit this process, and those that it starts from here on, to an instruction set; None: no limit.

    Raises SystemExit if this CPU does not have it, or our kernels were not compiled for it.
    """
    if isa is None:
        return
    os.environ |= {OURS: isa} | _OTHERS.get(isa, {})
    try:
        native.fastest_dtype()
    except InputError as error:
        raise SystemExit(f"--isa {isa}: {error}") from None


def describe_limit() -> str:
    """What programs are limited to: "all programs limited to AVX2 (ECHOSELF_ISA=avx2, ...)"; "" without a limit."""
    isa = os.environ.get(OURS)
    if not isa:
        return ""
    variables = {OURS: isa} | _OTHERS.get(isa, {})
    kept = " ".join(f"{name}={value}" for name, value in variables.items())
    return f"{'all programs' if isa in _OTHERS else 'ours'} limited to {shown(isa)} ({kept})"


def shown(isa: str) -> str:
    """An instruction set in text: AVX-512 BF16."""
    return isa.upper().replace("AVX512", "AVX-512").replace("_", " ")


def best_isa() -> str | None:
    """The instruction set of our kernels here; None if there are none."""
    return native.instruction_set(fastest_dtype(torch.device("cpu")))
