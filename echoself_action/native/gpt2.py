"""The losses of a GPT-2 and their gradients, on a CPU (`csrc/gpt2.h`)."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from .. import native
from ..errors import TrainingError
from ..model.gpt2 import GPT2
from . import c_api


class NativeGPT2:
    """Computes `model`, whose parameters are fp32 and contiguous, with products in `dtype`. Not thread-safe.

    The parameters are read in place at each call, in as many threads as PyTorch uses; results do not depend on their number.
    """

    def __init__(self, model: GPT2, dtype: torch.dtype) -> None:
        self._model, self._kernels, self._memory = model, native.kernels(dtype), native.Memory()
        self._parameters = dict(model.named_parameters())  # which takes long to collect

    def losses(self, ids: Tensor, targets: Tensor) -> Tensor:
        """The cross-entropy in nats of each of `targets`, without dropout: ids, targets and result are (sequences, length).

        Raises TrainingError if an id is not in the vocabulary, ValueError for a batch of another form.
        """
        struct, batch, kept = self._struct(), *self._batch(ids, targets, None)
        losses = torch.empty(ids.shape)
        memory = self._memory.at_least(self._kernels.losses_memory(struct, batch))
        self._require_valid(self._kernels.losses(struct, batch, losses.data_ptr(), memory), kept)
        return losses

    def gradients(
        self, ids: Tensor, targets: Tensor, scale: float, to: Mapping[str, Tensor], accumulate: bool, seeds: Sequence[int]
    ) -> Tensor:
        """The losses, and in `to` the gradients of `scale` times their sum by parameter name, or added to what is there.

        `seeds` are those of dropout, in [0, 2**64), one for each sequence.
        Raises TrainingError if an id is not in the vocabulary, ValueError for a batch of another form.
        """
        struct, batch, kept = self._struct(), *self._batch(ids, targets, seeds if self._model.config.dropout else None)
        losses = torch.empty(ids.shape)
        gradients = c_api.Gradients(_tensors(self._model, to), scale, accumulate)
        memory = self._memory.at_least(self._kernels.gradients_memory(struct, batch))
        self._require_valid(self._kernels.gradients(struct, batch, gradients, losses.data_ptr(), memory), kept)
        return losses

    def _struct(self) -> c_api.Gpt2:
        config = self._model.config
        sizes = (config.n_layer, config.n_head, config.n_embd, config.vocab_size, config.block_size)
        approximate = config.activation == "gelu_new"
        return c_api.Gpt2(
            *sizes, approximate, config.layer_norm_epsilon, config.dropout, _tensors(self._model, self._parameters)
        )

    def _batch(self, ids: Tensor, targets: Tensor, seeds: Sequence[int] | None) -> tuple[c_api.Batch, list[Tensor]]:
        """The C struct, and the tensors that it points to."""
        kept, longest = [ids.contiguous(), targets.contiguous()], self._model.config.block_size
        if not (
            ids.shape == targets.shape
            and ids.dtype is targets.dtype is torch.int64
            and ids.dim() == 2
            and 0 < ids.shape[1] <= longest
            and (seeds is None or len(seeds) == len(ids))
            and len(ids) > 0
        ):
            shapes = f"ids {tuple(ids.shape)} in {ids.dtype} and targets {tuple(targets.shape)} in {targets.dtype}"
            raise ValueError(
                f"{shapes}: expected (sequences, length) in int64, a length of at most the block_size of {longest}, and a seed"
                " for each sequence"
            )
        pointers = [tensor.data_ptr() for tensor in kept]
        if seeds is not None:
            kept.append(torch.from_numpy(np.array(seeds, np.uint64).view(np.int64)))
        address = None if seeds is None else kept[2].data_ptr()
        return c_api.Batch(*ids.shape, torch.get_num_threads(), *pointers, address), kept

    def _require_valid(self, invalid: int, batch: Sequence[Tensor]) -> None:
        if invalid < 0:
            return
        vocabulary = self._model.config.vocab_size
        token = next(int(one.flatten()[invalid]) for one in batch if not 0 <= one.flatten()[invalid] < vocabulary)
        raise invalid_token(token, vocabulary)


def invalid_token(token: int, vocabulary: int) -> TrainingError:
    """The error for a token id that is not in a vocabulary of this size."""
    return TrainingError(
        f"Token id {token} is not in the model's vocabulary of {vocabulary} tokens (ids 0 to {vocabulary - 1}), so its loss"
        " was not computed.",
        "Use the tokenizer that belongs to this model.",
    )


_BLOCK = {
    "ln_1_weight": "ln_1.weight",
    "ln_1_bias": "ln_1.bias",
    "ln_2_weight": "ln_2.weight",
    "ln_2_bias": "ln_2.bias",
    "attn_weight": "attn.c_attn.weight",
    "attn_bias": "attn.c_attn.bias",
    "attn_proj_weight": "attn.c_proj.weight",
    "attn_proj_bias": "attn.c_proj.bias",
    "fc_weight": "mlp.c_fc.weight",
    "fc_bias": "mlp.c_fc.bias",
    "mlp_proj_weight": "mlp.c_proj.weight",
    "mlp_proj_bias": "mlp.c_proj.bias",
}
_OUTSIDE = {"wte": "wte.weight", "wpe": "wpe.weight", "ln_f_weight": "ln_f.weight", "ln_f_bias": "ln_f.bias"}


def _tensors(model: GPT2, named: Mapping[str, Tensor]) -> c_api.Tensors:
    """The addresses of a tensor for each parameter of the model."""

    def address(name: str) -> int | None:
        tensor = named.get(f"transformer.{name}")
        return None if tensor is None else tensor.data_ptr()

    layers = range(model.config.n_layer)
    blocks = [c_api.BlockTensors(**{ours: address(f"h.{layer}.{name}") for ours, name in _BLOCK.items()}) for layer in layers]
    struct = c_api.Tensors(**{ours: address(name) for ours, name in _OUTSIDE.items()})
    struct.blocks = (c_api.BlockTensors * len(blocks))(*blocks)
    return struct
