"""The blocks of a GPT-2 for training in bfloat16 on a CPU, by `csrc/gpt2_block.c`."""

import ctypes
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from .. import native
from ..model.gpt2 import GPT2, Block, Transformer

_VECTORS = "ln_1_weight ln_1_bias ln_2_weight ln_2_bias attn_bias attn_proj_bias fc_bias mlp_proj_bias"
_WEIGHTS = "attn attn_proj fc mlp_proj"


def _pointers(names: str) -> list[tuple[str, type]]:
    return [(name, ctypes.c_void_p) for name in names.split()]


# as in gpt2_block.c


class _Block(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int32) for name in ("sequences", "length", "width", "heads", "tanh", "threads")),
        ("epsilon", ctypes.c_float),
        *_pointers(f"{_VECTORS} {_WEIGHTS}"),
    ]


class _Activations(ctypes.Structure):
    _fields_ = _pointers("x middle y heads log_sums attended inner")


class _Gradients(ctypes.Structure):
    _fields_ = _pointers(f"y x {_VECTORS} {_WEIGHTS}")


def why_not(model: nn.Module, dtype: torch.dtype) -> str | None:
    """What keeps this model from being trained so on this machine's CPU with products in `dtype`, in words; None where nothing
    does."""
    if not isinstance(model, GPT2):
        return "it is for architecture: gpt2"
    config = model.config
    if config.dropout:
        return "it takes dropout: 0"
    if config.block_size % native.MULTIPLE or config.n_embd // config.n_head % native.MULTIPLE:
        return f"it takes a block_size, and a width of each head, of a multiple of {native.MULTIPLE}"
    return native.why_not(dtype)


def trunk(transformer: Transformer) -> Callable[[Tensor], Tensor]:
    """`transformer.from_embeddings`, for training: of embeddings (batch, block_size, n_embd) in fp32, in one thread at a time.

    The weights of its linear layers are the first of their panels each, with the second behind it; all else is in fp32.
    """
    scratch = native.Scratch()
    blocks = [_NativeBlock(block, scratch) for block in cast(Sequence[Block], transformer.h)]

    def from_embeddings(embeddings: Tensor) -> Tensor:
        x = embeddings + transformer.wpe.weight[: embeddings.shape[1]]
        for block in blocks:
            x = _Apply.apply(x, block, *block.parameters.values())  # type: ignore[no-untyped-call]
        normalised: Tensor = transformer.ln_f(x)
        return normalised

    return from_embeddings


class _NativeBlock:
    """A block's parameters by their names in gpt2_block.c, where they lie, and the memory that it computes in."""

    def __init__(self, block: Block, scratch: native.Scratch) -> None:
        norms, linear = (block.ln_1, block.ln_2), (block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj)
        vectors = [*(p for norm in norms for p in (norm.weight, norm.bias)), *(layer.bias for layer in linear)]
        named = zip(f"{_VECTORS} {_WEIGHTS}".split(), [*vectors, *(layer.weight for layer in linear)], strict=True)
        self.parameters = {name: p for name, p in named if p is not None}
        self.heads, self.scratch = block.attn.n_head, scratch
        self._at = _Block(width=block.ln_1.weight.numel(), heads=self.heads, epsilon=block.ln_1.epsilon)
        self._at.tanh = block.mlp.approximate == "tanh"
        for name, p in self.parameters.items():
            setattr(self._at, name, p.data_ptr())

    def of(self, x: Tensor) -> Any:
        """Where it lies, for `x` (batch, length, width) as its input, in as many threads as PyTorch would take here."""
        self._at.sequences, self._at.length, _ = x.shape
        self._at.threads = torch.get_num_threads()
        return ctypes.byref(self._at)


class _Apply(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, block: _NativeBlock, *_: Tensor) -> Tensor:
        library, (batch, length, width) = native.library(), x.shape
        x = x.contiguous()
        heads, attended, inner = (x.new_empty(batch, length, n * width, dtype=torch.bfloat16) for n in (3, 1, 4))
        log_sums = x.new_empty(block.heads, batch, length)
        made = {"middle": torch.empty_like(x), "heads": heads, "log_sums": log_sums, "attended": attended, "inner": inner}
        y, at = torch.empty_like(x), block.of(x)
        activations = _Activations(x.data_ptr(), y=y.data_ptr(), **_addresses(made))
        library.forward(at, ctypes.byref(activations), block.scratch.at_least(library.forward_scratch(at)))
        ctx.block = block
        ctx.save_for_backward(x, *made.values())
        return y

    @staticmethod
    def backward(ctx: Any, of_y: Tensor) -> tuple[Tensor | None, ...]:
        library, block = native.library(), ctx.block
        x, middle, heads, log_sums, attended, inner = ctx.saved_tensors
        made = {"middle": middle, "heads": heads, "log_sums": log_sums, "attended": attended, "inner": inner}
        of_y, of_x, at = of_y.contiguous(), torch.empty_like(x), block.of(x)
        gradients = {name: torch.empty_like(p) for name, p in block.parameters.items()}
        library.backward(
            at,
            ctypes.byref(_Activations(x.data_ptr(), **_addresses(made))),
            ctypes.byref(_Gradients(of_y.data_ptr(), of_x.data_ptr(), **_addresses(gradients))),
            block.scratch.at_least(library.backward_scratch(at)),
        )
        return of_x, None, *gradients.values()


def _addresses(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    return {name: tensor.data_ptr() for name, tensor in tensors.items()}
