"""The loss of a NanEcho and its gradients on a CPU, by native kernels.

It is what `NanEchoForCausalLM.loss` computes, to rounding, from the same injected patterns and dropout, except that attention's
dropout is a hash of a seed: PyTorch's would need a matrix of (length, length) for each head.
"""

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .gpt2 import invalid_token
from .layers import PERSONA_TENSORS, Layers, TiedWeight

if TYPE_CHECKING:  # it imports transformers, which takes seconds
    from ..model.nanecho import (
        AdaptiveAttention,
        HypergraphPatternEncoder,
        NanEchoBlock,
        NanEchoForCausalLM,
        RecursiveReasoning,
    )


class NativeNanEcho:
    """Computes `model`, whose parameters are fp32 and contiguous, with products in `dtype`. Not thread-safe.

    `legacy: true` is other arithmetic and is not supported.
    """

    def __init__(self, model: "NanEchoForCausalLM", dtype: torch.dtype) -> None:
        assert not model.config.legacy
        self._model, self._layers = model, Layers(dtype)

    def loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        """The mean cross-entropy in nats of `targets` (batch, length), which are `ids` one position later.

        Raises TrainingError if an id is not in the vocabulary.
        """
        tied = TiedWeight()
        with torch.autocast("cpu", enabled=False):
            x = self._hidden(ids, targets, tied)
            return self._layers.cross_entropy(x, self._model.token_embedding.weight, targets.flatten(), tied)

    @torch.no_grad()
    def losses(self, ids: Tensor, targets: Tensor) -> Tensor:
        """The cross-entropy in nats of each of `targets`: ids, targets and result are (batch, length).

        Raises TrainingError if an id is not in the vocabulary.
        """
        x = self._hidden(ids, targets, TiedWeight())
        return self._layers.cross_entropies(x, self._model.token_embedding.weight, targets.flatten()).view(ids.shape)

    def _hidden(self, ids: Tensor, targets: Tensor, tied: TiedWeight) -> Tensor:
        """What the head multiplies, (batch * length, width)"""
        model, config = self._model, self._model.config
        for some in (ids, targets):
            invalid = some[(some < 0) | (some >= config.vocab_size)]
            if len(invalid):
                raise invalid_token(int(invalid[0]), config.vocab_size)
        x = self._layers.embedding(ids, model.token_embedding.weight, tied) + model.position_embedding.weight[: ids.shape[1]]
        x = F.dropout(x, config.dropout, model.training)
        for block in model.blocks:
            x = self._block(block, x)  # type: ignore[arg-type]
        return self._norm(x, model.ln_f).flatten(0, 1)

    def _linear(self, x: Tensor, layer: Any) -> Tensor:
        return self._layers.linear(x, layer.weight, layer.bias)

    def _norm(self, x: Tensor, layer: Any) -> Tensor:
        return self._layers.layer_norm(x, layer.weight, layer.bias)

    def _block(self, block: "NanEchoBlock", x: Tensor) -> Tensor:
        config, layers = block.config, self._layers
        x = x + self._attention(block.attn, self._norm(x, block.ln1))
        for name, persona in block.persona_dims.items():
            named, share = dict(persona.named_parameters()), (config.dimension_weights or {}).get(name, 0.125)
            x = layers.persona(x, share, [named[tensor] for tensor in PERSONA_TENSORS])
        if block.recursive is not None:
            x = x + 0.5 * self._recursion(block.recursive, x)
        if block.hypergraph is not None:
            x = x + 0.3 * self._hypergraph(block.hypergraph, x)
        mask = block.mlp_connection_mask.mask
        inner: Any = block.mlp[0]
        outer: Any = block.mlp[2]
        hidden = F.gelu(layers.linear(self._norm(x, block.ln2), inner.weight * mask, inner.bias))
        y = layers.linear(hidden, outer.weight * mask.t(), outer.bias)
        return x + F.dropout(y, config.dropout, block.training)

    def _attention(self, attention: "AdaptiveAttention", x: Tensor) -> Tensor:
        config, layers = attention.config, self._layers
        dropout = config.dropout if attention.training else 0.0
        thresholds = self._thresholds(attention, layers.running_mean(x)) if config.enable_adaptive_attention else None
        y = layers.attention(self._linear(x, attention.qkv), config.n_head, thresholds, dropout)
        y = layers.linear(y, attention.out_proj.weight * attention.connection_mask.mask, attention.out_proj.bias)
        return F.dropout(y, dropout)

    def _thresholds(self, attention: "AdaptiveAttention", mean: Tensor) -> Tensor:
        """(batch, length)"""
        config, net = attention.config, attention.threshold_net
        low, high = config.attention_threshold_min, config.attention_threshold_max
        load = torch.sigmoid(self._linear(mean, attention.cognitive_load_estimator))
        base = low + (high - low) * torch.sigmoid(self._linear(F.relu(self._linear(mean, net[0])), net[2]))
        return (base * (1 + load * config.cognitive_load_factor)).clamp(low, high)[:, :, 0]

    def _recursion(self, recursion: "RecursiveReasoning", x: Tensor) -> Tensor:
        depth, decay = recursion.config.recursion_depth, recursion.config.recursion_decay
        mixture = self._linear(self._layers.running_mean(x), recursion.depth_controller)[..., :depth].softmax(-1)
        current, total = x, torch.zeros_like(x)
        for step in range(depth):
            layer: Any = recursion.recursive_layers[step]
            current = F.gelu(self._norm(self._linear(current, layer[0]), layer[1]))
            total = total + current * decay**step * mixture[..., step, None]
        return total

    def _hypergraph(self, hypergraph: "HypergraphPatternEncoder", x: Tensor) -> Tensor:
        layers, edges, encoder = self._layers, hypergraph.edge_attention, hypergraph.pattern_encoder
        nodes = hypergraph.inject(self._linear(x, hypergraph.node_encoder))
        mixed = layers.linear(nodes, edges.in_proj_weight, edges.in_proj_bias)
        attended = self._linear(layers.attention(mixed, edges.heads, None, 0.0), edges.out_proj)
        return self._norm(self._linear(F.relu(self._linear(attended, encoder[0])), encoder[2]), encoder[3])
