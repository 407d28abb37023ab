"""A model's replicas, for threads that train it at the same time: one for each.

Their weights are the model's. What only products see of them is cast once for all replicas, after a step, where each would
cast it for itself. Gradients are a replica's own until they are gathered: no thread waits for another to add something, what
is in the dtype of products stays in it until then, and sums have one order.
"""

from collections.abc import Sequence
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..model.cross_entropy import head_cross_entropy, padded_head
from ..model.gpt2 import GPT2, Linear
from .compiled import Loss, compiled_trunk
from .optimizer import Part

_AT_ONCE = 1 << 19  # elements that are gathered: few calls for a small model, and little memory for a large one


class Replica:
    """`model` with parameters of its own, in the memory of the model's, or of what is `cast` of them; `head` is of all."""

    def __init__(self, model: GPT2, cast: dict[Tensor, Tensor], head: Tensor) -> None:
        tokens: Tensor = model.transformer.wte.weight
        self.parameters: dict[Tensor, nn.Parameter]
        self.parameters = {p: nn.Parameter(cast.get(p, p).detach()) for p in model.parameters()}
        self._transformer = deepcopy(model.transformer, {id(p): own for p, own in self.parameters.items()}).train()
        self._tokens, self._vocabulary = tokens.detach(), len(tokens)
        self.parameters[tokens] = self._head = nn.Parameter(head)
        self._read: tuple[Tensor, Tensor] | None = None
        self.set_compiled(False)

    def set_compiled(self, compiled: bool) -> None:
        self._trunk = compiled_trunk(self._transformer) if compiled else self._transformer.through

    def loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        """`GPT2.loss`."""
        # autograd would make the gradient of these few rows one of the whole vocabulary
        embedded = F.embedding(ids, self._tokens).requires_grad_()
        self._read = ids, embedded
        return head_cross_entropy(self._trunk(embedded).flatten(0, 1), self._head, targets.flatten(), self._vocabulary)

    def take_gradients(self, parameters: Sequence[Tensor]) -> list[Tensor]:
        """Those of some of the model's parameters, with none left; no gradient at all where nothing was computed."""
        own = [self.parameters[p] for p in parameters]
        found = [p.grad for p in own if p.grad is not None]
        for p in own:
            p.grad = None
        return found

    def add_gradient_of_read(self, gradient: Tensor) -> None:
        """Add that of the embeddings that were looked up to `gradient` (vocabulary, width), with none left."""
        read, self._read = self._read, None
        if read and read[1].grad is not None:
            gradient.index_add_(0, read[0].flatten(), read[1].grad.flatten(0, 1))

    def forget(self) -> None:
        self._read = None
        for p in self.parameters.values():
            p.grad = None


class Replicas:
    """One for each of the `parts` that the parameters of `model` are dealt out to. Products are in `dtype`."""

    def __init__(self, model: GPT2, dtype: torch.dtype, parts: Sequence[Part]) -> None:
        tokens: Tensor = model.transformer.wte.weight
        self._tokens = tokens
        head = padded_head(tokens.detach(), dtype)
        multiplied = [p for module in model.modules() if isinstance(module, Linear) for p in module.parameters()]
        cast: dict[Tensor, Tensor] = {}
        if dtype is not torch.float32:
            cast = {p: torch.empty_like(p, dtype=dtype, requires_grad=False) for p in multiplied}
        self._all = [Replica(model, cast, head) for _ in parts]
        cast[tokens] = head[: len(tokens)]
        self._groups = {part: _grouped(part.parameters) for part in parts}
        self._cast = {part: {p: cast[p] for p in part.parameters if p in cast} for part in parts}
        for part in parts:
            self.follow(part)

    def losses(self, compiled: bool) -> list[Loss]:
        """`GPT2.loss` of each; a `compiled` one compiles as `compiled_trunk` does."""
        for replica in self._all:
            replica.set_compiled(compiled)
        return [replica.loss for replica in self._all]

    @torch.no_grad()
    def follow(self, part: Part) -> None:
        """Take over the values that a part of the parameters has now."""
        if cast := self._cast[part]:
            torch._foreach_copy_(list(cast.values()), list(cast))

    @torch.no_grad()
    def gather(self, part: Part) -> None:
        """Add to the gradients of a part of the parameters what the replicas have."""
        for group in self._groups[part]:
            self._gather(group)

    def _gather(self, parameters: list[Tensor]) -> None:
        first, *others = [found for replica in self._all if (found := replica.take_gradients(parameters))]
        totals = [gradient.float() for gradient in first]
        for gradients in others:
            torch._foreach_add_(_pieces(totals), _pieces(gradients))
        for p, total in zip(parameters, totals, strict=True):
            if p is self._tokens:
                total = total[: len(p)]  # the head has more rows
                for replica in self._all:
                    replica.add_gradient_of_read(total)
            p.grad = total if p.grad is None else p.grad.add_(total)

    def forget(self) -> None:
        """Leave out what was not gathered."""
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
