"""Optimizer steps on a CPU (`csrc/adamw.h`, `csrc/muon.h`). All tensors are fp32 and contiguous."""

import ctypes
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .. import native
from . import c_api


def norm(tensors: Sequence[Tensor]) -> float:
    """The Euclidean norm of all elements together."""
    sizes = np.array([tensor.numel() for tensor in tensors], np.int64)
    table = native.any_kernels()
    return float(
        table.sum_of_squares(c_api.addresses(tensors), sizes.ctypes.data, len(tensors), torch.get_num_threads()) ** 0.5
    )


def adamw(
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor],
    means: Sequence[Tensor],
    squares: Sequence[Tensor],
    steps: Sequence[float],
    rate: float,
    betas: tuple[float, float],
    epsilon: float,
    decay: float,
    gradient_scale: float,
) -> None:
    """Step number `steps` (from 1) of each parameter, with gradients times `gradient_scale`."""
    sizes = np.array([tensor.numel() for tensor in parameters], np.int64)
    numbers = np.array(steps, np.float64)
    decays = np.full(len(sizes), 1 - rate * decay, np.float32)
    corrections = [(1 - beta**numbers).astype(np.float32) for beta in betas]
    tables = [c_api.addresses(some) for some in (parameters, means, squares, gradients)]
    pointers = [sizes.ctypes.data, *map(ctypes.addressof, tables), *(one.ctypes.data for one in (decays, *corrections))]
    threads = torch.get_num_threads()
    native.any_kernels().adamw(c_api.AdamWStep(len(sizes), threads, *pointers, rate, *betas, epsilon, gradient_scale))


def muon(
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor],
    momenta: Sequence[Tensor],
    side_by_side: int,
    coefficients: Sequence[tuple[float, float, float]],
    momentum: float,
    rate: float,
    decay: float,
    gradient_scale: float,
    dtype: torch.dtype,
    memory: native.Memory,
) -> None:
    """Muon's step of parameters of the same shape, with gradients times `gradient_scale`.

    Each parameter is `side_by_side` matrices beside each other. They are multiplied by `decay`, and `rate` times the
    orthogonalised update is subtracted. `coefficients` are those of x, x^3 and x^5 in each iteration.
    """
    table = np.array(coefficients, np.float32)
    tables = [c_api.addresses(some) for some in (parameters, momenta, gradients)]
    sizes = (len(parameters), *parameters[0].shape, side_by_side, len(table), torch.get_num_threads())
    pointers = [table.ctypes.data, *map(ctypes.addressof, tables)]
    kernels, struct = native.kernels(dtype), c_api.MuonStep(*sizes, *pointers, momentum, rate, decay, gradient_scale)
    kernels.muon(struct, memory.at_least(kernels.muon_memory(struct)))
