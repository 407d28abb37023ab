"""What the original programs compute: nanoGPT's model.py and 9cog/echoself's nanecho_model.py, from their sources alone.

Modules have the originals' names, so that a file's state dict is loaded as they load it: every tensor, and no other.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# NanEchoConfig's, for what a file does not say
_NANECHO = {
    "persona_dimensions": [
        *("cognitive", "introspective", "adaptive", "recursive"),
        *("synergistic", "holographic", "neural_symbolic", "dynamic"),
    ],
    **{"enable_adaptive_attention": True, "enable_persona_dimensions": True, "enable_recursive_reasoning": True},
    **{"enable_hypergraph_patterns": True, "attention_threshold_min": 0.3, "attention_threshold_max": 0.9},
    **{"cognitive_load_factor": 0.5, "min_recursion_depth": 1, "max_recursion_depth": 5, "recursion_decay": 0.8},
}


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int, threshold: Tensor | None = None) -> Tensor:
    """Causal attention of (batch, length, width); `threshold` is (batch, 1), NanEcho's."""
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (query, key, value))
    scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[3])
    scores = scores.masked_fill(torch.ones(scores.shape[2:]).tril() == 0, -torch.inf)
    if threshold is not None:
        t = threshold[:, :, None, None]
        scores = F.softplus(scores - t) - F.softplus(-t - scores)
    return (scores.softmax(3) @ v).transpose(1, 2).flatten(2)


class NanoGPT(nn.Module):
    def __init__(self, model_args: dict[str, Any]) -> None:
        super().__init__()
        width, vocab_size, bias = (model_args[name] for name in ("n_embd", "vocab_size", "bias"))
        self.block_size = model_args["block_size"]
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(vocab_size, width),
                "wpe": nn.Embedding(self.block_size, width),
                "h": nn.ModuleList(NanoGPTBlock(width, model_args["n_head"], bias) for _ in range(model_args["n_layer"])),
                "ln_f": nn.LayerNorm(width, bias=bias),
            }
        )
        self.lm_head = nn.Linear(width, vocab_size, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.transformer["wte"](ids) + self.transformer["wpe"](torch.arange(ids.shape[1]))
        for block in self.transformer["h"]:  # type: ignore[union-attr]
            x = block(x)
        logits: Tensor = self.lm_head(self.transformer["ln_f"](x))
        return logits


class NanoGPTBlock(nn.Module):
    def __init__(self, width: int, heads: int, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width, bias=bias), nn.LayerNorm(width, bias=bias)
        self.attn = nn.ModuleDict(
            {"c_attn": nn.Linear(width, 3 * width, bias=bias), "c_proj": nn.Linear(width, width, bias=bias)}
        )
        self.mlp = nn.ModuleDict(
            {"c_fc": nn.Linear(width, 4 * width, bias=bias), "c_proj": nn.Linear(4 * width, width, bias=bias)}
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn["c_proj"](attend(*self.attn["c_attn"](self.ln_1(x)).chunk(3, 2), self.heads))
        y: Tensor = x + self.mlp["c_proj"](F.gelu(self.mlp["c_fc"](self.ln_2(x))))
        return y


class NanEcho(nn.Module):
    """Without injected patterns. `declared` is the model's config as recorded in the file, and `built` how many of its persona
    dimensions were made into modules: the first four in older versions of the program."""

    def __init__(self, declared: dict[str, Any], current_iteration: int, built: int = 8) -> None:
        super().__init__()
        config = _NANECHO | {name: value for name, value in declared.items() if value is not None}
        names = config["persona_dimensions"]
        config.setdefault("dimension_weights", dict.fromkeys(names, 1 / len(names)))
        width = config["n_embd"]
        self.current_iteration, self.block_size = current_iteration, config["block_size"]
        self.token_embedding = nn.Embedding(config["vocab_size"], width)
        self.position_embedding = nn.Embedding(config["block_size"], width)
        self.blocks = nn.ModuleList(NanEchoBlock(config, layer, names[:built]) for layer in range(config["n_layer"]))
        self.ln_f = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, config["vocab_size"], bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.token_embedding(ids) + self.position_embedding(torch.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x, self.current_iteration)
        logits: Tensor = self.lm_head(self.ln_f(x))
        return logits


class NanEchoBlock(nn.Module):
    def __init__(self, config: dict[str, Any], layer: int, dimensions: list[str]) -> None:
        super().__init__()
        width, layers, bias = config["n_embd"], config["n_layer"], config["bias"]
        self.weights = config["dimension_weights"]
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(config)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width, bias=bias), nn.GELU(), nn.Linear(4 * width, width, bias=bias))
        self.mlp_connection_mask = Mask(4 * width, width)
        has_persona = config["enable_persona_dimensions"] and layer >= layers // 4
        self.persona_dims = nn.ModuleDict({name: Persona(width) for name in dimensions if has_persona})
        self.recursive = Recursion(config) if config["enable_recursive_reasoning"] and layer >= layers // 2 else None
        self.hypergraph = Hypergraph(width) if config["enable_hypergraph_patterns"] and layer >= 3 * layers // 4 else None

    def forward(self, x: Tensor, iteration: int) -> Tensor:
        x = x + self.attn(self.ln1(x))
        for name, persona in self.persona_dims.items():
            x = x + self.weights.get(name, 0.125) * persona(x)
        if self.recursive is not None:
            x = x + 0.5 * self.recursive(x, iteration)
        if self.hypergraph is not None:
            x = x + 0.3 * self.hypergraph(x)
        mask, inner, outer = self.mlp_connection_mask.mask, self.mlp[0], self.mlp[2]
        y = F.gelu(F.linear(self.ln2(x), inner.weight * mask, inner.bias))  # type: ignore[operator, arg-type]
        return x + F.linear(y, (outer.weight.t() * mask).t(), outer.bias)  # type: ignore[operator, arg-type]


class Mask(nn.Module):
    mask: Tensor

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.register_buffer("_current_ratio_tensor", torch.tensor(0.0))
        self.register_buffer("mask", torch.zeros(shape))


class Attention(nn.Module):
    mask: Tensor

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width, block = config["n_embd"], config["block_size"]
        self.config = config
        self.qkv = nn.Linear(width, 3 * width, bias=config["bias"])
        self.out_proj = nn.Linear(width, width, bias=config["bias"])
        self.threshold_net = nn.Sequential(nn.Linear(width, width // 2), nn.ReLU(), nn.Linear(width // 2, 1), nn.Sigmoid())
        self.cognitive_load_estimator = nn.Linear(width, 1)
        self.connection_mask = Mask(width, width)
        self.register_buffer("mask", torch.zeros(1, 1, block, block))

    def forward(self, x: Tensor) -> Tensor:
        low, high = self.config["attention_threshold_min"], self.config["attention_threshold_max"]
        threshold = None
        if self.config["enable_adaptive_attention"]:
            load = self.cognitive_load_estimator(x.mean(1)).sigmoid()
            base = low + (high - low) * self.threshold_net(x.mean(1))
            threshold = (base * (1 + load * self.config["cognitive_load_factor"])).clamp(low, high)
        y = attend(*self.qkv(x).chunk(3, 2), self.config["n_head"], threshold)
        return F.linear(y, self.out_proj.weight * self.connection_mask.mask, self.out_proj.bias)


class Persona(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.transform = nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width), nn.GELU(), nn.Linear(width, width))
        self.gate = nn.Sequential(nn.Linear(width, width // 2), nn.ReLU(), nn.Linear(width // 2, width), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.gate(x) * self.transform(x)
        return y


class Recursion(nn.Module):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width, depth = config["n_embd"], config["max_recursion_depth"]
        self.config = config
        self.recursive_layers = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width), nn.GELU()) for _ in range(depth)
        )
        self.depth_controller = nn.Linear(width, depth)
        self.combiner = nn.Linear(width * depth, width)

    def forward(self, x: Tensor, iteration: int) -> Tensor:
        least, most = self.config["min_recursion_depth"], self.config["max_recursion_depth"]
        depth = int(least + (most - least) * min(iteration / 10000, 1.0))
        shares = self.depth_controller(x.mean(1))[:, :depth].softmax(1)
        outputs = []
        for step in range(depth):
            x = self.recursive_layers[step](x)
            outputs.append(x * self.config["recursion_decay"] ** step)
        return torch.einsum("dblc,bd->blc", torch.stack(outputs), shares)


class Hypergraph(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.pattern_templates = nn.Parameter(torch.zeros(8, width))
        self.pattern_encoder = nn.Sequential(
            nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width), nn.LayerNorm(width)
        )
        self.node_encoder = nn.Linear(width, width)
        self.edge_attention = nn.MultiheadAttention(width, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        nodes = self.node_encoder(x)
        encoded: Tensor = self.pattern_encoder(self.edge_attention(nodes, nodes, nodes)[0])
        return encoded
