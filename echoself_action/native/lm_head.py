"""The cross-entropy of a language model's head in bfloat16 on a CPU, with its gradients (`csrc/lm_head.c`)."""

import torch
from torch import Tensor

from .. import native
from ..errors import TrainingError
from ..model.cross_entropy import ChunkGradients
from . import c_api


def native_chunk_gradients() -> ChunkGradients:
    """`cross_entropy.chunk_gradients` by native code, for a number of positions that is a multiple of 32. Not thread-safe.

    Its `head` is the first of the packed panels (`native.panels_for`), with the transpose's behind it in memory. Raises
    TrainingError if a target is not in [0, vocabulary).
    """
    scratch = native.Scratch()

    def chunk_gradients(x: Tensor, head: Tensor, targets: Tensor, vocabulary: int, grad_x: Tensor) -> tuple[Tensor, Tensor]:
        positions, padded = len(x), len(head)
        logits, grad_head = x.new_empty(positions, padded), torch.empty_like(head)
        losses = torch.empty(positions, dtype=torch.float32)
        addresses = (tensor.data_ptr() for tensor in (x, head, targets, logits, losses, grad_x, grad_head))
        arguments = c_api.LmHead(positions, x.shape[1], padded, vocabulary, torch.get_num_threads(), *addresses)
        library = native.library()
        invalid = library.echoself_lm_head(arguments, scratch.at_least(library.echoself_lm_head_scratch(arguments)))
        if invalid >= 0:
            raise TrainingError(
                f"Token id {int(targets[invalid])} is not in the model's vocabulary of {vocabulary} tokens (ids 0 to"
                f" {vocabulary - 1}), so its loss was not computed.",
                "Use the tokenizer that belongs to this model.",
            )
        return losses.sum(), grad_head

    return chunk_gradients
