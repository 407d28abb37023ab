"""Newton-Schulz iterations in bfloat16 on a CPU, for Muon (`csrc/newton_schulz.c`)."""

import ctypes
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .. import native


class _Matrices(ctypes.Structure):
    """As in newton_schulz.c."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in ("count", "rows", "columns", "steps", "threads")),
        ("x", ctypes.c_void_p),
        ("coefficients", ctypes.c_void_p),
    ]


def supports(matrices: Tensor) -> bool:
    """Whether the native kernel can compute these `matrices` (count, rows, columns)."""
    return not any(size % native.MULTIPLE for size in matrices.shape[1:])


def newton_schulz_(x: Tensor, coefficients: Sequence[tuple[float, float, float]], scratch: native.Scratch) -> Tensor:
    """Replace each matrix of `x` (count, rows, columns), bfloat16 and contiguous, by a x + b x x^T x + c (x x^T)^2 x: once for
    each (a, b, c) of `coefficients`."""
    table = np.array(coefficients, np.float32)
    matrices = _Matrices(*x.shape, len(table), torch.get_num_threads(), x.data_ptr(), table.ctypes.data)
    library, at = native.library(), ctypes.byref(matrices)
    library.orthogonal(at, scratch.at_least(library.orthogonal_scratch(at)))
    return x
