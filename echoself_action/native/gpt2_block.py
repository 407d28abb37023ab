"""The blocks of a GPT-2 for training in bfloat16 on a CPU (`csrc/gpt2_block.c`)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from .. import native
from ..model.gpt2 import GPT2, Block, Transformer
from . import c_api


def why_not(model: nn.Module, dtype: torch.dtype) -> str | None:
    """Why native kernels can't train this model with products in `dtype` on this machine; None if they can."""
    if not isinstance(model, GPT2):
        return "they need architecture: gpt2"
    config = model.config
    if config.dropout:
        return "they need dropout: 0"
    if config.block_size % native.MULTIPLE or config.n_embd // config.n_head % native.MULTIPLE:
        return f"they need a block_size and a head size (n_embd / n_head) that are multiples of {native.MULTIPLE}"
    return native.why_not(dtype)


def trunk(transformer: Transformer) -> Callable[[Tensor], Tensor]:
    """`transformer.from_embeddings` for training, of embeddings (batch, block_size, n_embd) in fp32. Not thread-safe.

    The weights of its linear layers are the first of their packed panels (`native.panels_for`), with the transpose's behind
    them in memory; all other parameters are fp32.
    """
    scratch = native.Scratch()
    blocks = [_NativeBlock(block, scratch) for block in cast(Sequence[Block], transformer.h)]

    def from_embeddings(embeddings: Tensor) -> Tensor:
        x = embeddings + transformer.wpe.weight[: embeddings.shape[1]]
        for block in blocks:
            x = _BlockFunction.apply(x, block, *block.parameters.values())  # type: ignore[no-untyped-call]
        normalised: Tensor = transformer.ln_f(x)
        return normalised

    return from_embeddings


class _NativeBlock:
    """A block's parameters by their names in api.h, and the C struct that points to them."""

    def __init__(self, block: Block, scratch: native.Scratch) -> None:
        norms, linear = (block.ln_1, block.ln_2), (block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj)
        vectors = [*(p for norm in norms for p in (norm.weight, norm.bias)), *(layer.bias for layer in linear)]
        names = f"{c_api.VECTORS} {c_api.WEIGHTS}".split()
        named = zip(names, [*vectors, *(layer.weight for layer in linear)], strict=True)
        self.parameters = {name: p for name, p in named if p is not None}
        self.heads, self.scratch = block.attn.n_head, scratch
        self._struct = c_api.BlockStruct(width=block.ln_1.weight.numel(), heads=self.heads, epsilon=block.ln_1.epsilon)
        self._struct.tanh = block.mlp.approximate == "tanh"
        for name, p in self.parameters.items():
            setattr(self._struct, name, p.data_ptr())

    def struct(self, x: Tensor) -> c_api.BlockStruct:
        """For `x` (batch, length, width) as its input, with as many threads as PyTorch uses."""
        self._struct.batch, self._struct.length, _ = x.shape
        self._struct.threads = torch.get_num_threads()
        return self._struct


class _BlockFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, block: _NativeBlock, *_: Tensor) -> Tensor:
        library, (batch, length, width) = native.library(), x.shape
        x = x.contiguous()
        qkv, attn_out, fc_out = (x.new_empty(batch, length, n * width, dtype=torch.bfloat16) for n in (3, 1, 4))
        logsumexp = x.new_empty(block.heads, batch, length)
        saved = {"mid": torch.empty_like(x), "qkv": qkv, "logsumexp": logsumexp, "attn_out": attn_out, "fc_out": fc_out}
        y, struct = torch.empty_like(x), block.struct(x)
        activations = c_api.Activations(x=x.data_ptr(), y=y.data_ptr(), **_addresses(saved))
        scratch = block.scratch.at_least(library.echoself_block_forward_scratch(struct))
        library.echoself_block_forward(struct, activations, scratch)
        ctx.block = block
        ctx.save_for_backward(x, *saved.values())
        return y

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        library, block = native.library(), ctx.block
        names = ("x", "mid", "qkv", "logsumexp", "attn_out", "fc_out")
        saved = dict(zip(names, ctx.saved_tensors, strict=True))
        x = saved["x"]
        grad_y, grad_x, struct = grad_y.contiguous(), torch.empty_like(x), block.struct(x)
        gradients = {name: torch.empty_like(p) for name, p in block.parameters.items()}
        library.echoself_block_backward(
            struct,
            c_api.Activations(**_addresses(saved)),
            c_api.Gradients(y=grad_y.data_ptr(), x=grad_x.data_ptr(), **_addresses(gradients)),
            block.scratch.at_least(library.echoself_block_backward_scratch(struct)),
        )
        return grad_x, None, *gradients.values()


def _addresses(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    return {name: tensor.data_ptr() for name, tensor in tensors.items()}
