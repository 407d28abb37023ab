"""Replicas of a model for data-parallel threads, one per thread.

Replicas share the model's weights. Weights that are used in matrix products only are cast to the compute dtype, or packed for
the native kernels, once after each step for all replicas. Each replica has its own gradients until they are reduced: threads
do not wait for each other, gradients stay in the compute dtype until then, and the order of summation is fixed.
"""

from collections.abc import Sequence
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ... import native
from ...model.cross_entropy import chunk_gradients, head_cross_entropy, padded_head
from ...model.gpt2 import GPT2, Linear, Transformer
from ...native import gpt2_block
from ...native.lm_head import native_chunk_gradients
from ..optim.param_groups import Part
from ..run import Loss

_BUCKET = 1 << 19  # elements per reduction: few calls for a small model, little memory for a large one


class _Replica:
    """A copy of `model` whose parameters share memory with the model's, or with their copies in `cast`.

    `head` (padded vocabulary, width) is the output layer's weight, shared by all replicas.
    """

    def __init__(self, model: GPT2, cast: dict[Tensor, Tensor], head: Tensor, by_native: bool) -> None:
        tokens: Tensor = model.transformer.wte.weight
        self.parameters: dict[Tensor, nn.Parameter]
        self.parameters = {p: nn.Parameter(cast.get(p, p).detach()) for p in model.parameters()}
        own: Transformer = deepcopy(model.transformer, {id(p): own for p, own in self.parameters.items()}).train()
        self._trunk = gpt2_block.trunk(own) if by_native else own.from_embeddings
        self._by = native_chunk_gradients() if by_native else chunk_gradients
        self._tokens, self._vocabulary = tokens.detach(), len(tokens)
        self.parameters[tokens] = self._head = nn.Parameter(head)
        self._embedded: tuple[Tensor, Tensor] | None = None

    def loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        """`GPT2.loss`."""
        # through F.embedding's weight, autograd would allocate a gradient for the whole vocabulary
        embeddings = F.embedding(ids, self._tokens).requires_grad_()
        self._embedded = ids, embeddings
        x = self._trunk(embeddings).flatten(0, 1)
        return head_cross_entropy(x, self._head, targets.flatten(), self._vocabulary, gradients=self._by)

    def take_gradients(self, parameters: Sequence[Tensor]) -> list[Tensor]:
        """Return and clear the gradients of these parameters of the model. Empty if the replica computed no gradients."""
        own = [self.parameters[p] for p in parameters]
        gradients = [p.grad for p in own if p.grad is not None]
        for p in own:
            p.grad = None
        return gradients

    def add_embeddings_gradient(self, total: Tensor) -> None:
        """Add the gradient of the embeddings that were looked up to `total` (vocabulary, width), and clear it."""
        embedded, self._embedded = self._embedded, None
        if embedded:
            ids, embeddings = embedded
            assert embeddings.grad is not None
            total.index_add_(0, ids.flatten(), embeddings.grad.flatten(0, 1))

    def forget(self) -> None:
        self._embedded = None
        for p in self.parameters.values():
            p.grad = None


class Replicas:
    """Replicas of `model`, one for each of its optimizer's `parts`; each thread reduces and broadcasts one part.

    Matrix products are in `dtype`. Blocks and loss are computed by native kernels if `by_native` is true, else by PyTorch.
    """

    def __init__(self, model: GPT2, dtype: torch.dtype, parts: Sequence[Part], by_native: bool = False) -> None:
        tokens: Tensor = model.transformer.wte.weight
        self._tokens = tokens
        layers = [module for module in model.modules() if isinstance(module, Linear)]
        panels: dict[Tensor, Tensor] = {}
        cast: dict[Tensor, Tensor] = {}
        if by_native:
            panels = {p: native.panels_for(p) for p in (tokens, *(layer.weight for layer in layers))}
            head = panels[tokens][0]
        else:
            if dtype is not torch.float32:
                multiplied = [p for layer in layers for p in layer.parameters()]
                cast = {p: torch.empty_like(p, dtype=dtype, requires_grad=False) for p in multiplied}
            head = padded_head(tokens.detach(), dtype)
            cast[tokens] = head[: len(tokens)]
        operands = cast | {p: both[0] for p, both in panels.items()}
        self._all = [_Replica(model, operands, head, by_native) for _ in parts]
        self._groups = {part: _buckets(part.parameters) for part in parts}
        self._cast = {part: {p: cast[p] for p in part.parameters if p in cast} for part in parts}
        self._panels = {part: {p: panels[p] for p in part.parameters if p in panels} for part in parts}
        for part in parts:
            self.broadcast(part)

    @property
    def losses(self) -> list[Loss]:
        """`GPT2.loss` of each replica."""
        return [replica.loss for replica in self._all]

    @torch.no_grad()
    def broadcast(self, part: Part) -> None:
        """Update the replicas' cast or packed copies of a part of the model's parameters."""
        if cast := self._cast[part]:
            torch._foreach_copy_(list(cast.values()), list(cast))
        for weight, panels in self._panels[part].items():
            native.pack(weight, panels)

    @torch.no_grad()
    def reduce(self, part: Part) -> None:
        """Add the replicas' gradients to those of a part of the model's parameters, in fp32.

        Raises ValueError if no replica has gradients.
        """
        for group in self._groups[part]:
            self._reduce(group)

    def _reduce(self, parameters: list[Tensor]) -> None:
        first, *others = [taken for replica in self._all if (taken := replica.take_gradients(parameters))]
        totals = [gradient.float() for gradient in first]
        for gradients in others:
            torch._foreach_add_(_pieces(totals), _pieces(gradients))
        for p, total in zip(parameters, totals, strict=True):
            if p is self._tokens:
                total = total[: len(p)]  # the head is padded
                for replica in self._all:
                    replica.add_embeddings_gradient(total)
            p.grad = total if p.grad is None else p.grad.add_(total)

    def forget(self) -> None:
        """Discard gradients that were not reduced."""
        for replica in self._all:
            replica.forget()


def _pieces(tensors: list[Tensor]) -> list[Tensor]:
    """The tensors of a bucket. A single large one is split by rows: adding another dtype to it makes an fp32 copy."""
    if len(tensors) > 1:
        return tensors
    (tensor,) = tensors
    return [*torch.split(tensor, max(1, _BUCKET * len(tensor) // tensor.numel()))]


def _buckets(parameters: Sequence[Tensor]) -> list[list[Tensor]]:
    """Consecutive parameters in buckets; each but the last has at least `_BUCKET` elements."""
    groups: list[list[Tensor]] = [[]]
    for p in parameters:
        groups[-1].append(p)
        if sum(one.numel() for one in groups[-1]) >= _BUCKET:
            groups.append([])
    return [group for group in groups if group]
