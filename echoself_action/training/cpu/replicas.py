"""A model's replicas, for threads that train it at the same time: one for each.

Their weights are the model's. What only products see of them is cast once for all replicas, after a step, where each would
cast it for itself, or laid out for native code where that computes them. Gradients are a replica's own until they are reduced:
no thread waits for another to add something, what is in the dtype of products stays in it until then, and sums have one order.
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

_AT_ONCE = 1 << 19  # elements that are reduced: few calls for a small model, and little memory for a large one


class _Replica:
    """One of them: `model` with parameters of its own, which lie in the memory of the model's, or of what is `cast` of them.
    `head` (padded vocabulary, width) is the one that all share."""

    def __init__(self, model: GPT2, cast: dict[Tensor, Tensor], head: Tensor, by_native: bool) -> None:
        tokens: Tensor = model.transformer.wte.weight
        self.parameters: dict[Tensor, nn.Parameter]
        self.parameters = {p: nn.Parameter(cast.get(p, p).detach()) for p in model.parameters()}
        own: Transformer = deepcopy(model.transformer, {id(p): own for p, own in self.parameters.items()}).train()
        self._trunk = gpt2_block.trunk(own) if by_native else own.from_embeddings
        self._by = native_chunk_gradients() if by_native else chunk_gradients
        self._tokens, self._vocabulary = tokens.detach(), len(tokens)
        self.parameters[tokens] = self._head = nn.Parameter(head)
        self._looked_up: tuple[Tensor, Tensor] | None = None

    def loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        """`GPT2.loss`."""
        # autograd would make the gradient of these few rows one of the whole vocabulary
        embeddings = F.embedding(ids, self._tokens).requires_grad_()
        self._looked_up = ids, embeddings
        x = self._trunk(embeddings).flatten(0, 1)
        return head_cross_entropy(x, self._head, targets.flatten(), self._vocabulary, gradients=self._by)

    def take_gradients(self, parameters: Sequence[Tensor]) -> list[Tensor]:
        """Those of some of the model's parameters, with none left. The list is empty where nothing was computed."""
        own = [self.parameters[p] for p in parameters]
        found = [p.grad for p in own if p.grad is not None]
        for p in own:
            p.grad = None
        return found

    def add_embeddings_gradient(self, total: Tensor) -> None:
        """Add that of the embeddings that were looked up to `total` (vocabulary, width), with none left."""
        looked_up, self._looked_up = self._looked_up, None
        if looked_up:
            ids, embeddings = looked_up
            assert embeddings.grad is not None
            total.index_add_(0, ids.flatten(), embeddings.grad.flatten(0, 1))

    def forget(self) -> None:
        self._looked_up = None
        for p in self.parameters.values():
            p.grad = None


class Replicas:
    """One for each of the `parts` that the parameters of `model` are dealt out to, so that as many threads can reduce and
    broadcast, each a part. Products are in `dtype`; blocks and loss are computed by PyTorch or `by_native` kernels."""

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
        seen = cast | {p: both[0] for p, both in panels.items()}
        self._all = [_Replica(model, seen, head, by_native) for _ in parts]
        self._groups = {part: _grouped(part.parameters) for part in parts}
        self._cast = {part: {p: cast[p] for p in part.parameters if p in cast} for part in parts}
        self._panels = {part: {p: panels[p] for p in part.parameters if p in panels} for part in parts}
        for part in parts:
            self.broadcast(part)

    @property
    def losses(self) -> list[Loss]:
        """`GPT2.loss` of each."""
        return [replica.loss for replica in self._all]

    @torch.no_grad()
    def broadcast(self, part: Part) -> None:
        """Give the replicas the values that a part of the model's parameters has now."""
        if cast := self._cast[part]:
            torch._foreach_copy_(list(cast.values()), list(cast))
        for weight, panels in self._panels[part].items():
            native.pack(weight, panels)

    @torch.no_grad()
    def reduce(self, part: Part) -> None:
        """Add the replicas' gradients to those of a part of the model's parameters, in fp32. Raises ValueError where there are
        none."""
        for group in self._groups[part]:
            self._reduce(group)

    def _reduce(self, parameters: list[Tensor]) -> None:
        first, *others = [found for replica in self._all if (found := replica.take_gradients(parameters))]
        totals = [gradient.float() for gradient in first]
        for gradients in others:
            torch._foreach_add_(_pieces(totals), _pieces(gradients))
        for p, total in zip(parameters, totals, strict=True):
            if p is self._tokens:
                total = total[: len(p)]  # the head has more rows
                for replica in self._all:
                    replica.add_embeddings_gradient(total)
            p.grad = total if p.grad is None else p.grad.add_(total)

    def forget(self) -> None:
        """Leave out what was not reduced."""
        for replica in self._all:
            replica.forget()


def _pieces(tensors: list[Tensor]) -> list[Tensor]:
    """A group's tensors, or the rows of the one that is large: what is added in another dtype is copied in fp32 first."""
    if len(tensors) > 1:
        return tensors
    (tensor,) = tensors
    return [*torch.split(tensor, max(1, _AT_ONCE * len(tensor) // tensor.numel()))]


def _grouped(parameters: Sequence[Tensor]) -> list[list[Tensor]]:
    """In order, each but the last of at least `_AT_ONCE` elements."""
    groups: list[list[Tensor]] = [[]]
    for p in parameters:
        groups[-1].append(p)
        if sum(one.numel() for one in groups[-1]) >= _AT_ONCE:
            groups.append([])
    return [group for group in groups if group]
