"""NanEcho: GPT-2 with a threshold in its attention, persona dimensions, recursive reasoning, a hypergraph layer, and growing
connections (github.com/9cog/echoself, nanecho_model.py).

This one file trains in echoself-action and is what it publishes as `modeling_nanecho.py`: it imports torch and transformers
alone. Tensors have the original's names and orientation, so a checkpoint of the original's is read as it is.

A new model is causal: what the original takes the mean of over the whole text is here the mean over the text so far, the
hypergraph's attention looks back only, labels are shifted once, and nothing is injected when it is evaluated.
`legacy: true` is the original's own arithmetic: its logits depend on later tokens, and it learned the token after the next.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer
from transformers.modeling_outputs import CausalLMOutputWithPast

PERSONA_DIMENSIONS = [
    *("cognitive", "introspective", "adaptive", "recursive"),
    *("synergistic", "holographic", "neural_symbolic", "dynamic"),
]
_EDGE_HEADS, _PATTERNS = 4, 8


class NanEchoConfig(PreTrainedConfig):
    """The original's settings under its names, and where its schedules stand.

    `current_iteration` is the training step: the depth of the recursion grows with it until `recursion_growth_steps`, so the
    logits depend on it. Connections grow by `connection_growth_rate` every `connection_growth_interval` steps, from
    `initial_connections` of them to `max_connections`. `connection_seed` says which come next.
    """

    model_type = "nanecho"
    attribute_map: ClassVar[dict[str, str]] = {
        "hidden_size": "n_embd",
        "max_position_embeddings": "block_size",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
    }

    vocab_size: int = 50257
    n_embd: int = 768
    n_head: int = 12
    n_layer: int = 12
    block_size: int = 1024
    dropout: float = 0.1
    bias: bool = True
    initial_connections: float = 0.1
    connection_growth_rate: float = 0.05
    connection_growth_interval: int = 500
    max_connections: float = 1.0
    connection_seed: int = 0
    enable_adaptive_attention: bool = True
    enable_persona_dimensions: bool = True
    enable_recursive_reasoning: bool = True
    enable_hypergraph_patterns: bool = True
    persona_dimensions: list[str] | None = None
    dimension_weights: dict[str, float] | None = None
    attention_threshold_min: float = 0.3
    attention_threshold_max: float = 0.9
    cognitive_load_factor: float = 0.5
    min_recursion_depth: int = 1
    max_recursion_depth: int = 5
    recursion_decay: float = 0.8
    recursion_growth_steps: int = 10000
    pattern_injection_rate: float = 0.25
    pattern_complexity_scaling: bool = True
    current_iteration: int = 0
    legacy: bool = False
    use_cache: bool = True
    tie_word_embeddings: bool = False  # the head is the embedding: there is no second matrix to tie
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        if self.persona_dimensions is None:
            self.persona_dimensions = list(PERSONA_DIMENSIONS)
        if self.dimension_weights is None:
            self.dimension_weights = {name: 1.0 / len(self.persona_dimensions) for name in self.persona_dimensions}
        super().__post_init__(**kwargs)

    def with_dropout(self, dropout: float) -> NanEchoConfig:
        """The same model with another rate of dropout."""
        other = copy.deepcopy(self)
        other.dropout = dropout
        return other

    def growing_over(self, steps: int) -> NanEchoConfig:
        """The same model, with all its connections after half of `steps` steps and its full depth at their end."""
        other = copy.deepcopy(self)
        growths = math.ceil((self.max_connections - self.initial_connections) / self.connection_growth_rate - 1e-6)
        other.connection_growth_interval = max(1, steps // 2 // max(1, growths))
        other.recursion_growth_steps = steps
        return other

    def has_persona(self, layer: int) -> bool:
        return self.enable_persona_dimensions and layer >= self.n_layer // 4

    def has_recursion(self, layer: int) -> bool:
        return self.enable_recursive_reasoning and layer >= self.n_layer // 2

    def has_hypergraph(self, layer: int) -> bool:
        return self.enable_hypergraph_patterns and layer >= 3 * self.n_layer // 4

    @property
    def recursion_depth(self) -> int:
        """How deep the recursion is at `current_iteration`."""
        progress = min(self.current_iteration / self.recursion_growth_steps, 1.0)
        return int(self.min_recursion_depth + (self.max_recursion_depth - self.min_recursion_depth) * progress)

    def connection_ratio(self, step: int) -> float:
        """The share of connections that a new model has at `step`."""
        grown = step // self.connection_growth_interval * self.connection_growth_rate
        return min(self.initial_connections + grown, self.max_connections)


class Context:
    """What the tokens of one forward pass may look at.

    With a cache they come after `past` others. `valid` is (batch, past + length), 0.0 for padding, or None where there is none.
    """

    def __init__(self, config: NanEchoConfig, length: int, cache: Cache | None, attention_mask: Tensor | None) -> None:
        self.legacy = config.legacy
        self.n_layer = config.n_layer
        self.cache = cache
        self.past = cache.get_seq_length() if cache is not None else 0
        self.length = length
        padded = attention_mask is not None and not bool(attention_mask.all())
        if padded and config.legacy:
            raise ValueError("a legacy NanEcho takes means over the whole text, padding included: give texts of one length")
        self.valid = attention_mask if padded else None

    def positions(self, device: torch.device) -> Tensor:
        """(batch or 1, length)"""
        if self.valid is None:
            return torch.arange(self.past, self.past + self.length, device=device)[None]
        return (self.valid.long().cumsum(-1) - 1).clamp(min=0)[:, self.past :]

    def visible(self, device: torch.device) -> Tensor:
        """Which tokens each may attend to, itself always: (batch or 1, 1, length, past + length), boolean."""
        everything = torch.ones(self.length, self.past + self.length, dtype=torch.bool, device=device)
        earlier = everything.tril(self.past)
        if self.valid is None:
            return earlier[None, None]
        itself = earlier & ~everything.tril(self.past - 1)
        return (earlier & self.valid.bool()[:, None] | itself)[:, None]

    def remember(self, slot: int, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """`key` and `value` (batch, heads, length, width) after those that the cache has of earlier tokens."""
        if self.cache is None:
            return key, value
        index = slot * self.n_layer + layer
        while len(self.cache.layers) <= index:
            self.cache.layers.append(DynamicLayer())
        remembered: tuple[Tensor, Tensor] = self.cache.update(key, value, index)
        return remembered

    def mean(self, slot: int, layer: int, x: Tensor) -> Tensor:
        """The mean of `x` (batch, length, width) over the text so far, of its shape; legacy: over all of it, of length 1."""
        if self.legacy:
            return x.mean(dim=1, keepdim=True)
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        if self.valid is not None:
            x = x * self.valid[:, self.past :, None]
        history, _ = self.remember(slot, layer, x[:, None], x[:, None, :, :0])
        sums = history[:, 0].cumsum(1)[:, self.past :]
        if self.valid is None:
            counts = torch.arange(self.past + 1, self.past + self.length + 1, device=x.device)[None]
        else:
            counts = self.valid.long().cumsum(-1).clamp(min=1)[:, self.past :]
        return sums / counts[:, :, None]


# What a layer keeps in the cache, each in layers of its own.
_ATTENTION, _ATTENTION_MEAN, _RECURSION_MEAN, _EDGES = range(4)


class ConnectionMask(nn.Module):
    """Which weights of a matrix are connected: ones and zeros of its shape, and the share that is meant to be ones."""

    mask: Tensor
    _current_ratio_tensor: Tensor

    def __init__(self, shape: tuple[int, int], ratio: float) -> None:
        super().__init__()
        self.register_buffer("_current_ratio_tensor", torch.tensor(ratio))
        self.register_buffer("mask", torch.ones(shape))

    @property
    def ratio(self) -> float:
        """The share of connections that is meant to be ones."""
        return self._current_ratio_tensor.item()

    def grow(self, ratio: float, seed: str) -> None:
        """Connect more, until it is `ratio` of them; which is a pure function of the mask and the seed."""
        now = self._current_ratio_tensor.item()
        if ratio <= now + 1e-6:
            return
        digest = hashlib.blake2b(f"{seed} {ratio:.6f}".encode(), digest_size=7).digest()
        draws = torch.rand(self.mask.shape, generator=torch.Generator().manual_seed(int.from_bytes(digest, "big")))
        new = draws < (1.0 if ratio >= 1 else (ratio - now) / (1 - now))
        self.mask.copy_(torch.maximum(self.mask, new.to(self.mask)))
        self._current_ratio_tensor.fill_(ratio)


class AdaptiveAttention(nn.Module):
    """Causal self-attention whose scores go through a soft threshold, which depends on the text."""

    def __init__(self, config: NanEchoConfig, layer: int) -> None:
        super().__init__()
        width = config.n_embd
        self.config, self.layer = config, layer
        self.qkv = nn.Linear(width, 3 * width, bias=config.bias)
        self.out_proj = nn.Linear(width, width, bias=config.bias)
        self.threshold_net = nn.Sequential(nn.Linear(width, width // 2), nn.ReLU(), nn.Linear(width // 2, 1), nn.Sigmoid())
        self.cognitive_load_estimator = nn.Linear(width, 1)
        self.connection_mask = ConnectionMask((width, width), config.initial_connections)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        config = self.config
        weights, value = self.weights(x, context)
        weights = F.dropout(weights, config.dropout, self.training).to(value.dtype)
        y = (weights @ value).transpose(1, 2).reshape(x.shape)
        y = F.linear(y, self.out_proj.weight * self.connection_mask.mask, self.out_proj.bias)
        return F.dropout(y, config.dropout, self.training)

    def weights(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """The attention weights (batch, head, length, past + length), and the values that they are for."""
        config = self.config
        batch, length, width = x.shape
        heads = self.qkv(x).view(batch, length, 3, config.n_head, width // config.n_head).permute(2, 0, 3, 1, 4)
        query, key, value = heads.unbind(0)  # each (batch, head, length, width / head)
        key, value = context.remember(_ATTENTION, self.layer, key, value)
        scores = query @ key.transpose(-2, -1) / math.sqrt(width // config.n_head)
        if config.enable_adaptive_attention:
            threshold = self.threshold(context.mean(_ATTENTION_MEAN, self.layer, x))[:, None]
            scores = F.softplus(scores - threshold) - F.softplus(-threshold - scores)
        return scores.masked_fill(~context.visible(x.device), float("-inf")).softmax(-1), value

    def threshold(self, mean: Tensor) -> Tensor:
        """(batch, length or 1, 1)"""
        config = self.config
        low, high = config.attention_threshold_min, config.attention_threshold_max
        load = torch.sigmoid(self.cognitive_load_estimator(mean))
        base: Tensor = low + (high - low) * self.threshold_net(mean)
        return (base * (1 + load * config.cognitive_load_factor)).clamp(low, high)


class PersonaDimension(nn.Module):
    """x + gate(x) * transform(x)"""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.transform = nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width), nn.GELU(), nn.Linear(width, width))
        self.gate = nn.Sequential(nn.Linear(width, width // 2), nn.ReLU(), nn.Linear(width // 2, width), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.gate(x) * self.transform(x)
        return y


class RecursiveReasoning(nn.Module):
    """Layers one after the other, as deep as training has come, mixed by weights that depend on the text."""

    def __init__(self, config: NanEchoConfig, layer: int) -> None:
        super().__init__()
        width, depth = config.n_embd, config.max_recursion_depth
        self.config, self.layer = config, layer
        self.recursive_layers = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width), nn.GELU()) for _ in range(depth)
        )
        self.depth_controller = nn.Linear(width, depth)
        self.combiner = nn.Linear(width * depth, width)  # the original has it in its files, and never uses it

    def forward(self, x: Tensor, context: Context) -> Tensor:
        depth = self.config.recursion_depth
        mixture = self.depth_controller(context.mean(_RECURSION_MEAN, self.layer, x))[..., :depth].softmax(-1)
        current, total = x, torch.zeros_like(x)
        for step in range(depth):
            current = self.recursive_layers[step](current)
            total = total + current * self.config.recursion_decay**step * mixture[..., step, None]
        return total


class EdgeAttention(nn.Module):
    """nn.MultiheadAttention's arithmetic under its names, with a cache."""

    def __init__(self, width: int, layer: int) -> None:
        super().__init__()
        self.layer, self.heads = layer, _EDGE_HEADS
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        batch, length, width = x.shape
        mixed = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        heads = mixed.view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = heads.unbind(0)
        key, value = context.remember(_EDGES, self.layer, key, value)
        visible = None if context.legacy else context.visible(x.device)
        y = F.scaled_dot_product_attention(query, key, value, attn_mask=visible)
        attended: Tensor = self.out_proj(y.transpose(1, 2).reshape(batch, length, width))
        return attended


class HypergraphPatternEncoder(nn.Module):
    """Attention between nodes, some of which are replaced by patterns at random while the model is trained."""

    def __init__(self, config: NanEchoConfig, layer: int) -> None:
        super().__init__()
        width = config.n_embd
        self.rate = config.pattern_injection_rate
        self.pattern_templates = nn.Parameter(torch.empty(_PATTERNS, width))
        self.pattern_encoder = nn.Sequential(
            nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width), nn.LayerNorm(width)
        )
        self.node_encoder = nn.Linear(width, width)
        self.edge_attention = EdgeAttention(width, layer)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        encoded: Tensor = self.pattern_encoder(self.edge_attention(self.inject(self.node_encoder(x)), context))
        return encoded

    def inject(self, nodes: Tensor) -> Tensor:
        """`nodes` (batch, length, width) with patterns, if the model is trained."""
        if not self.training or self.rate <= 0:
            return nodes
        injected = torch.rand(*nodes.shape[:2], 1, device=nodes.device) < self.rate
        chosen = torch.randint(_PATTERNS, nodes.shape[:2], device=nodes.device)
        return torch.where(injected, F.embedding(chosen, self.pattern_templates).to(nodes.dtype), nodes)


class NanEchoBlock(nn.Module):
    def __init__(self, config: NanEchoConfig, layer: int) -> None:
        super().__init__()
        width = config.n_embd
        self.config = config
        self.ln1 = nn.LayerNorm(width)
        self.ln2 = nn.LayerNorm(width)
        self.attn = AdaptiveAttention(config, layer)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width, bias=config.bias), nn.GELU(), nn.Linear(4 * width, width, bias=config.bias)
        )
        self.mlp_connection_mask = ConnectionMask((4 * width, width), config.initial_connections)
        names = config.persona_dimensions or [] if config.has_persona(layer) else []
        self.persona_dims = nn.ModuleDict({name: PersonaDimension(width) for name in names})
        self.recursive = RecursiveReasoning(config, layer) if config.has_recursion(layer) else None
        self.hypergraph = HypergraphPatternEncoder(config, layer) if config.has_hypergraph(layer) else None

    def forward(self, x: Tensor, context: Context) -> Tensor:
        x = x + self.attn(self.ln1(x), context)
        for name, dimension in self.persona_dims.items():
            x = x + (self.config.dimension_weights or {}).get(name, 0.125) * dimension(x)
        if self.recursive is not None:
            x = x + 0.5 * self.recursive(x, context)
        if self.hypergraph is not None:
            x = x + 0.3 * self.hypergraph(x, context)
        mask = self.mlp_connection_mask.mask
        inner: Any = self.mlp[0]
        outer: Any = self.mlp[2]
        hidden = F.gelu(F.linear(self.ln2(x), inner.weight * mask, inner.bias))
        y = F.linear(hidden, outer.weight * mask.t(), outer.bias)
        return x + F.dropout(y, self.config.dropout, self.training)


class NanEchoForCausalLM(PreTrainedModel, GenerationMixin):
    """The language model. A new one has untrained weights: call `initialise`, or load a state dict."""

    config_class = NanEchoConfig
    config: NanEchoConfig
    base_model_prefix = ""
    _no_split_modules = ["NanEchoBlock"]  # noqa: RUF012  # as transformers declares it

    def __init__(self, config: NanEchoConfig) -> None:
        super().__init__(config)
        self.token_embedding = nn.Embedding(config.vocab_size, config.n_embd)
        self.position_embedding = nn.Embedding(config.block_size, config.n_embd)
        self.blocks = nn.ModuleList(NanEchoBlock(config, layer) for layer in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        **_: Any,
    ) -> CausalLMOutputWithPast:
        """Logits (batch, length, vocab_size) for token ids (batch, length), and the loss where `labels` (the ids) are given.

        Raises ValueError where the text is longer than block_size, or is padded and the model a legacy one.
        """
        caching = (self.config.use_cache if use_cache is None else use_cache) and not self.training and not self.config.legacy
        if caching and past_key_values is None:
            past_key_values = DynamicCache()
        context = Context(self.config, input_ids.shape[1], past_key_values if caching else None, attention_mask)
        hidden = self._hidden(input_ids, context, position_ids)
        kept = hidden[:, -logits_to_keep:] if logits_to_keep else hidden
        logits = F.linear(kept, self.token_embedding.weight)
        loss = None
        if labels is not None:
            shift = self.label_shift
            loss = F.cross_entropy(logits[:, :-shift].flatten(0, 1).float(), labels[:, shift:].flatten())
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=context.cache)

    @property
    def label_shift(self) -> int:
        """How many tokens ahead it predicts. The original's training shifted its labels twice."""
        return 2 if self.config.legacy else 1

    def logits(self, ids: Tensor) -> Tensor:
        """Logits (batch, length, vocab_size) for token ids (batch, length), length at most block_size."""
        hidden = self._hidden(ids, Context(self.config, ids.shape[1], None, None), None)
        return F.linear(hidden, self.token_embedding.weight)

    def incremental(self) -> Callable[[Tensor], Tensor] | None:
        """A function of a text's next token ids (batch, length), as many at a time as there are: the logits
        (batch, vocab_size) after the last of them. It remembers those before, and computes none again.

        It raises ValueError where the text has become longer than block_size, and computes no gradients. None for a legacy
        model: with another token, what it made of all those before changes too.
        """
        if self.config.legacy:
            return None
        cache = DynamicCache()

        @torch.no_grad()
        def following(ids: Tensor) -> Tensor:
            hidden = self._hidden(ids, Context(self.config, ids.shape[1], cache, None), None)
            return F.linear(hidden[:, -1], self.token_embedding.weight)

        return following

    def loss(self, ids: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
        """Cross-entropy in nats of `targets` (batch, length), which are `ids` one position later."""
        ahead = self.label_shift - 1
        predicted = self.logits(ids)[:, : ids.shape[1] - ahead]
        return F.cross_entropy(predicted.flatten(0, 1).float(), targets[:, ahead:].flatten(), reduction=reduction)

    def advance(self, step: int, connections: float | None = None) -> None:
        """Say where training stands, before the step after `step`: the recursion deepens, connections grow.

        They grow to the share `connections`, by default to that of the configuration at `step`. None are removed.
        """
        config = self.config
        config.current_iteration = step
        ratio = config.connection_ratio(step) if connections is None else connections
        for name, mask in self._connections():
            mask.grow(ratio, f"{config.connection_seed} {name}")

    @property
    def connections(self) -> float:
        """The share of connections that it has."""
        return max(mask.ratio for _, mask in self._connections())

    @torch.no_grad()
    def initialise(self, seed: int) -> None:
        """GPT-2's: N(0, 0.02), the projections back into the residual stream scaled by 1/sqrt(2 n_layer), no biases."""
        self.config.connection_seed = seed
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                residual = name.endswith(("attn.out_proj.weight", "mlp.2.weight"))
                std = 0.02 / math.sqrt(2 * self.config.n_layer) if residual else 0.02
                parameter.normal_(0.0, 1.0 if name.endswith("pattern_templates") else std, generator=generator)
            elif name.endswith("bias"):
                parameter.zero_()
        for _, mask in self._connections():
            mask.mask.copy_(torch.rand(mask.mask.shape, generator=generator) < self.config.initial_connections)

    def parameter_count(self) -> int:
        """Parameters, the head that is the embedding counted once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def get_input_embeddings(self) -> nn.Module:
        return self.token_embedding

    def prepare_inputs_for_generation(self, input_ids: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """A legacy model has no cache, see `incremental`."""
        if self.config.legacy:
            return {"input_ids": input_ids[:, -self.config.block_size :], "use_cache": False}
        inputs: dict[str, Any] = GenerationMixin.prepare_inputs_for_generation(self, input_ids, *args, **kwargs)  # type: ignore[arg-type]
        return inputs

    def _hidden(self, ids: Tensor, context: Context, position_ids: Tensor | None) -> Tensor:
        if context.past + ids.shape[1] > self.config.block_size:
            raise ValueError(f"{context.past + ids.shape[1]} tokens are more than block_size, {self.config.block_size}")
        positions = context.positions(ids.device) if position_ids is None else position_ids
        x = self.token_embedding(ids) + self.position_embedding(positions)
        x = F.dropout(x, self.config.dropout, self.training)
        for block in self.blocks:
            x = block(x, context)
        normalised: Tensor = self.ln_f(x)
        return normalised

    def _connections(self) -> Iterator[tuple[str, ConnectionMask]]:
        for name, module in self.named_modules():
            if isinstance(module, ConnectionMask):
                yield name, module

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing: weights come from `initialise` or from a file, and one that a file lacks is an error."""
