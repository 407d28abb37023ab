"""Newton-Schulz iterations in bfloat16 on a CPU, for Muon (`csrc/newton_schulz.c`)."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .. import native
from . import c_api


def supports(matrices: Tensor) -> bool:
    """Whether the native kernel can compute these `matrices` (count, rows, columns)."""
    return not any(size % native.MULTIPLE for size in matrices.shape[1:])


def newton_schulz_(x: Tensor, coefficients: Sequence[tuple[float, float, float]], scratch: native.Scratch) -> Tensor:
    """Replace each matrix of `x` (count, rows, columns), bfloat16 and contiguous, by a x + b x x^T x + c (x x^T)^2 x: once for
    each (a, b, c) of `coefficients`."""
    table = np.array(coefficients, np.float32)
    matrices = c_api.NewtonSchulz(*x.shape, len(table), torch.get_num_threads(), x.data_ptr(), table.ctypes.data)
    library = native.library()
    library.echoself_newton_schulz(matrices, scratch.at_least(library.echoself_newton_schulz_scratch(matrices)))
    return x
