"""The loss of a language model's head by `csrc/lm_head.c`, for training in bfloat16 on a CPU."""

import ctypes

import torch
from torch import Tensor

from .. import native
from ..model.cross_entropy import ChunkGradients


def native_chunk_gradients() -> ChunkGradients:
    """`cross_entropy.chunk_gradients` by native code, in one thread at a time, for positions that are a multiple of 32. Its
    `head` is the first of panels (`native.panels_for`), with the second behind it."""
    scratch = native.Scratch()

    def chunk_gradients(x: Tensor, head: Tensor, targets: Tensor, vocabulary: int, of_x: Tensor) -> tuple[Tensor, Tensor]:
        positions, padded = len(x), len(head)
        logits, of_head = x.new_empty(positions, padded), torch.empty_like(head)
        losses = torch.empty(positions, dtype=torch.float32)
        places = (tensor.data_ptr() for tensor in (x, head, targets, logits, losses, of_x, of_head))
        at = ctypes.byref(_Head(positions, x.shape[1], padded, vocabulary, torch.get_num_threads(), *places))
        library = native.library()
        library.head(at, scratch.at_least(library.head_scratch(at)))
        return losses.sum(), of_head

    return chunk_gradients


class _Head(ctypes.Structure):
    """As in lm_head.c."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in ("rows", "width", "columns", "vocabulary", "threads")),
        *((name, ctypes.c_void_p) for name in ("x", "head", "targets", "logits", "losses", "of_x", "of_head")),
    ]
