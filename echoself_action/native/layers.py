"""Layers of other models than GPT-2, computed by native kernels inside PyTorch's autograd (`csrc/linear.h`, `persona.h`).

Tensors are fp32 and contiguous; products are in the dtype of the kernels. Nothing has a second derivative.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from .. import native
from . import c_api

PERSONA_TENSORS = (
    *("transform.0.weight", "transform.0.bias", "transform.1.weight", "transform.1.bias"),
    *("transform.3.weight", "transform.3.bias", "gate.0.weight", "gate.0.bias", "gate.2.weight", "gate.2.bias"),
)
"""The parameters of a persona dimension, in the order of c_api.PersonaTensors."""

_EPSILON = 1e-5  # of nn.LayerNorm


@dataclass
class TiedWeight:
    """An embedding that is also the head. The head's part of its gradient waits here for the embedding's part, which is added
    to it: autograd would allocate both, and a sum."""

    head_gradient: Tensor | None = None


@dataclass(frozen=True)
class Layers:
    """The kernels for `dtype`, and the memory that they share. Not thread-safe."""

    dtype: torch.dtype
    memory: native.Memory = field(default_factory=native.Memory)

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """`F.linear`: x (..., inputs), weight (outputs, inputs), bias (outputs) -> (..., outputs)"""
        return _apply(_Linear, x.contiguous(), weight.contiguous(), bias, self)

    def attention(self, qkv: Tensor, heads: int, thresholds: Tensor | None, dropout: float) -> Tensor:
        """Causal attention of qkv (batch, length, 3 * width) -> (batch, length, width).

        With `thresholds` (batch, length) it is of softplus(s - t) - softplus(-s - t) of the scaled scores s. Dropout is a
        function of seeds that are drawn from PyTorch's generator.
        """
        seeds = torch.randint(1 << 62, (qkv.shape[0],)) if dropout else None
        contiguous = None if thresholds is None else thresholds.contiguous()
        return _apply(_Attention, qkv.contiguous(), contiguous, heads, dropout, seeds, self)

    def persona(self, x: Tensor, share: float, parameters: Sequence[Tensor]) -> Tensor:
        """x + share * (x + gate * transform), of x (..., width) and the PERSONA_TENSORS."""
        return _apply(_Persona, x.contiguous(), share, self, *parameters)

    def layer_norm(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """`F.layer_norm` of x (..., width). PyTorch's own gradients of it depend on the number of threads."""
        return _apply(_LayerNorm, x.contiguous(), weight, bias, self)

    def running_mean(self, x: Tensor) -> Tensor:
        """The mean of x (batch, length, width) up to each position, of its shape."""
        return _apply(_RunningMean, x.contiguous(), self)

    def embedding(self, ids: Tensor, weight: Tensor, tied: TiedWeight) -> Tensor:
        """`F.embedding`, for a weight that `cross_entropy` has too."""
        return _apply(_Embedding, ids, weight, tied)

    def cross_entropy(self, x: Tensor, weight: Tensor, targets: Tensor, tied: TiedWeight) -> Tensor:
        """The mean cross-entropy in nats of `targets` (rows), for the logits x (rows, width) @ weight.T.

        The gradient of the weight is computed where `tied` was given to `embedding`.
        """
        return _apply(_CrossEntropy, x.contiguous(), weight.detach(), targets.contiguous(), tied, self)

    def cross_entropies(self, x: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        """The cross-entropy in nats of each of `targets` (rows), without gradients."""
        losses = x.new_empty(len(x))
        sizes = (*x.shape, len(weight), torch.get_num_threads(), 0.0)
        inputs = (x.contiguous(), weight, targets.contiguous(), losses)
        self.run("cross_entropy", c_api.CrossEntropy(*sizes, *(tensor.data_ptr() for tensor in inputs)))
        return losses

    def run(self, name: str, layer: c_api.Layer) -> None:
        """Call the kernel `name` with its struct, which points to tensors that the caller keeps."""
        kernels = native.kernels(self.dtype)
        memory = self.memory.at_least(getattr(kernels, f"{name}_memory")(layer))
        getattr(kernels, name)(layer, memory)


def _apply(function: type[torch.autograd.Function], *inputs: Any) -> Tensor:
    result: Tensor = function.apply(*inputs)  # type: ignore[no-untyped-call]
    return result


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, layers: Layers) -> Tensor:
        outputs, inputs = weight.shape
        y = x.new_empty(*x.shape[:-1], outputs)
        sizes = (x.numel() // inputs, inputs, outputs, torch.get_num_threads())
        layers.run("linear", c_api.LinearLayer(*sizes, x.data_ptr(), weight.data_ptr(), _address(bias), y.data_ptr()))
        ctx.save_for_backward(x, weight)
        ctx.sizes, ctx.layers, ctx.has_bias = sizes, layers, bias is not None
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        grad_y = grad_y.contiguous()
        grad_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        grad_weight, grad_bias = torch.empty_like(weight), weight.new_empty(len(weight)) if ctx.has_bias else None
        inputs = (x.data_ptr(), weight.data_ptr(), None, None, grad_y.data_ptr())
        gradients = (_address(grad_x), grad_weight.data_ptr(), _address(grad_bias))
        ctx.layers.run("linear", c_api.LinearLayer(*ctx.sizes, *inputs, *gradients))
        return grad_x, grad_weight, grad_bias, None


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, thresholds: Tensor | None, heads: int, dropout: float, seeds: Tensor | None, layers: Layers
    ) -> Tensor:
        batch, length, width = *qkv.shape[:2], qkv.shape[2] // 3
        y, logsumexp = qkv.new_empty(batch, length, width), qkv.new_empty(heads, batch, length)
        sizes = (batch, length, heads, width, torch.get_num_threads(), dropout, _address(seeds), qkv.data_ptr())
        ctx.sizes, ctx.layers, ctx.seeds = (*sizes, _address(thresholds), y.data_ptr(), logsumexp.data_ptr()), layers, seeds
        layers.run("attention", c_api.CausalAttention(*ctx.sizes))
        ctx.save_for_backward(qkv, thresholds, y, logsumexp)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, Tensor | None, None, None, None, None]:
        qkv, thresholds, _, logsumexp = ctx.saved_tensors
        grad_y, grad_qkv = grad_y.contiguous(), torch.empty_like(qkv)
        grad_thresholds = None if thresholds is None else torch.empty_like(logsumexp)
        pointers = (grad_y.data_ptr(), grad_qkv.data_ptr(), _address(grad_thresholds))
        ctx.layers.run("attention", c_api.CausalAttention(*ctx.sizes, *pointers))
        return grad_qkv, None if grad_thresholds is None else grad_thresholds.sum(0), None, None, None, None


class _Persona(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, share: float, layers: Layers, *parameters: Tensor) -> Tensor:
        width = x.shape[-1]
        rows = x.numel() // width
        ctx.head = (rows, width, torch.get_num_threads(), share, _EPSILON)
        y = torch.empty_like(x)
        kept = [x.new_empty(rows, columns) for columns in (width, width // 2, width, width)]
        weights = c_api.PersonaTensors(*(tensor.data_ptr() for tensor in parameters))
        pointers = [tensor.data_ptr() for tensor in (x, y, *kept)]
        layers.run("persona", c_api.Persona(*ctx.head, weights, c_api.PersonaTensors(), *pointers))
        ctx.save_for_backward(x, *kept, *parameters)
        ctx.layers = layers
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, *kept = ctx.saved_tensors[:5]
        parameters = ctx.saved_tensors[5:]
        grad_y, grad_x, gradients = grad_y.contiguous(), torch.empty_like(x), [torch.empty_like(p) for p in parameters]
        structs = [c_api.PersonaTensors(*(tensor.data_ptr() for tensor in some)) for some in (parameters, gradients)]
        pointers = [x.data_ptr(), None, *(tensor.data_ptr() for tensor in (*kept, grad_y, grad_x))]
        ctx.layers.run("persona", c_api.Persona(*ctx.head, *structs, *pointers))
        return grad_x, None, None, *gradients


class _LayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, layers: Layers) -> Tensor:
        y, width = torch.empty_like(x), x.shape[-1]
        inputs = (x.data_ptr(), weight.data_ptr(), bias.data_ptr())
        ctx.sizes, ctx.layers = (x.numel() // width, width, torch.get_num_threads(), _EPSILON, *inputs), layers
        layers.run("layer_norm", c_api.LayerNormLayer(*ctx.sizes, y.data_ptr()))
        ctx.save_for_backward(x, weight, bias)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        grad_y, gradients = grad_y.contiguous(), [torch.empty_like(tensor) for tensor in ctx.saved_tensors]
        pointers = (grad_y.data_ptr(), *(tensor.data_ptr() for tensor in gradients))
        ctx.layers.run("layer_norm", c_api.LayerNormLayer(*ctx.sizes, None, *pointers))
        return gradients[0], gradients[1], gradients[2], None


class _RunningMean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, layers: Layers) -> Tensor:
        y = torch.empty_like(x)
        ctx.sizes, ctx.layers = (*x.shape, torch.get_num_threads()), layers
        layers.run("running_mean", c_api.RunningMean(*ctx.sizes, x.data_ptr(), y.data_ptr()))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, None]:
        grad_y = grad_y.contiguous()
        grad_x = torch.empty_like(grad_y)
        ctx.layers.run("running_mean", c_api.RunningMean(*ctx.sizes, None, None, grad_y.data_ptr(), grad_x.data_ptr()))
        return grad_x, None


class _Embedding(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ids: Tensor, weight: Tensor, tied: TiedWeight) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.tied = tied
        return F.embedding(ids, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[None, Tensor, None]:
        (ids,) = ctx.saved_tensors
        gradient, ctx.tied.head_gradient = ctx.tied.head_gradient, None
        return None, gradient.index_add_(0, ids.flatten(), grad_y.flatten(0, 1)), None


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, targets: Tensor, tied: TiedWeight, layers: Layers) -> Tensor:
        rows, width = x.shape
        losses, grad_x, grad_weight = x.new_empty(rows), torch.empty_like(x), torch.empty_like(weight)
        sizes = (rows, width, len(weight), torch.get_num_threads(), 1 / rows)
        pointers = (tensor.data_ptr() for tensor in (x, weight, targets, losses, grad_x, grad_weight))
        layers.run("cross_entropy", c_api.CrossEntropy(*sizes, *pointers))
        ctx.save_for_backward(grad_x, grad_weight)
        ctx.tied = tied
        return losses.mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        grad_x, grad_weight = ctx.saved_tensors
        if gradient != 1:
            grad_x, grad_weight = grad_x.mul_(gradient), grad_weight.mul_(gradient)
        ctx.tied.head_gradient = grad_weight
        return grad_x, None, None, None, None
