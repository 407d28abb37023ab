"""GPT-2 (Radford et al. 2019): token ids -> logits.

Parameters have the names and the orientation of transformers' `GPT2LMHeadModel`: matrices are (in, out), and the head is tied
to the token embedding. A state dict of this module is therefore the content of a stock `model.safetensors`; nothing is renamed
or transposed between training and publishing.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import KeyValueCache, cached_attention, causal_attention, causal_weights
from .config import GPT2Config
from .cross_entropy import linear_cross_entropy

GELUS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "gelu_new": partial(F.gelu, approximate="tanh")}


class Linear(nn.Module):
    """y = x W + b with W of shape (in, out), as GPT-2 checkpoints store it (`Conv1D` in transformers)."""

    def __init__(self, n_in: int, n_out: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_in, n_out))
        self.bias = nn.Parameter(torch.zeros(n_out)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.t(), self.bias)


class LayerNorm(nn.Module):
    """Layer normalisation with an optional bias."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(config.n_embd))
        self.bias = nn.Parameter(torch.zeros(config.n_embd)) if config.bias else None
        self.epsilon = config.layer_norm_epsilon

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.epsilon)


class Attention(nn.Module):
    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.c_attn = Linear(config.n_embd, 3 * config.n_embd, config.bias)
        self.c_proj = Linear(config.n_embd, config.n_embd, config.bias)
        self.n_head = config.n_head
        self.dropout = config.dropout

    def forward(self, x: Tensor, past: KeyValueCache | None = None) -> Tensor:
        if past is None:
            y = causal_attention(self.c_attn(x), self.n_head, self.dropout if self.training else 0.0)
        else:
            y = cached_attention(self.c_attn(x), self.n_head, past)
        return F.dropout(self.c_proj(y), self.dropout, self.training)

    def weights(self, x: Tensor) -> Tensor:
        """The attention weights of a whole text: (batch, heads, length, length)."""
        return causal_weights(self.c_attn(x), self.n_head)


class MLP(nn.Module):
    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.c_fc = Linear(config.n_embd, 4 * config.n_embd, config.bias)
        self.c_proj = Linear(4 * config.n_embd, config.n_embd, config.bias)
        self.activation: Callable[[Tensor], Tensor] = GELUS[config.activation]
        self.dropout = config.dropout

    def forward(self, x: Tensor) -> Tensor:
        x = self.c_proj(self.activation(self.c_fc(x)))
        return F.dropout(x, self.dropout, self.training)


class Block(nn.Module):
    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.ln_1 = LayerNorm(config)
        self.attn = Attention(config)
        self.ln_2 = LayerNorm(config)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, past: KeyValueCache | None = None) -> Tensor:
        x = x + self.attn(self.ln_1(x), past)
        y: Tensor = x + self.mlp(self.ln_2(x))
        return y


class Transformer(nn.Module):
    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        # uninitialised: on the meta device, PyTorch's random initialisation would load its compiler, which takes seconds
        self.wte = nn.Embedding(config.vocab_size, config.n_embd, _weight=torch.empty(config.vocab_size, config.n_embd))
        self.wpe = nn.Embedding(config.block_size, config.n_embd, _weight=torch.empty(config.block_size, config.n_embd))
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = LayerNorm(config)
        self.dropout = config.dropout

    def forward(self, ids: Tensor, past: Sequence[KeyValueCache] = ()) -> Tensor:
        """Hidden states (batch, length, n_embd). `past` is a cache for each block, with the tokens that precede `ids`."""
        return self.from_embeddings(self.wte(ids), past)

    def from_embeddings(self, embeddings: Tensor, past: Sequence[KeyValueCache] = ()) -> Tensor:
        """`forward` from token embeddings (batch, length, n_embd), without position embeddings."""
        start = past[0].length if past else 0
        x = embeddings + self.wpe.weight[start : start + embeddings.shape[1]]
        x = F.dropout(x, self.dropout, self.training)
        for layer, block in enumerate(self.h):
            x = block(x, past[layer] if past else None)
        normalised: Tensor = self.ln_f(x)
        return normalised


class GPT2(nn.Module):
    """The language model. A new one has uninitialised weights: call `initialise` or load a state dict."""

    label_shift = 1  # number of tokens ahead that the model predicts

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.config = config
        self.transformer = Transformer(config)

    def logits(self, ids: Tensor) -> Tensor:
        """Logits (batch, length, vocab_size) for token ids (batch, length), length at most block_size."""
        return F.linear(self.transformer(ids), self.transformer.wte.weight)

    forward = logits

    def incremental(self) -> Callable[[Tensor], Tensor]:
        """A function for generation with a key-value cache.

        Each call takes the next token ids of a text (batch, length), any number of them, and returns the logits
        (batch, vocab_size) after the last one. It raises ValueError if the text exceeds block_size, and computes no gradients.
        """
        block_size = self.config.block_size
        past = [KeyValueCache(block_size) for _ in self.transformer.h]

        @torch.no_grad()
        def following(ids: Tensor) -> Tensor:
            if past[0].length + ids.shape[1] > block_size:
                raise ValueError(f"{past[0].length + ids.shape[1]} tokens are more than block_size, {block_size}")
            return F.linear(self.transformer(ids, past)[:, -1], self.transformer.wte.weight)

        return following

    def loss(self, ids: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
        """Cross-entropy in nats of `targets` (batch, length), which are `ids` shifted by one position."""
        x = self.transformer(ids).flatten(0, 1)
        return linear_cross_entropy(x, self.transformer.wte.weight, targets.flatten(), reduction)

    def advance(self, step: int) -> None:
        """Set the training step. A GPT-2 does not depend on it."""

    @torch.no_grad()
    def initialise(self, seed: int) -> None:
        """GPT-2's initialisation: N(0, 0.02), the projections back into the residual stream scaled by 1/sqrt(2 n_layer)."""
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                residual = name.endswith("c_proj.weight")
                std = 0.02 / math.sqrt(2 * self.config.n_layer) if residual else 0.02
                parameter.normal_(0.0, std, generator=generator)

    def parameter_count(self) -> int:
        """The number of parameters; the tied head is counted once."""
        return sum(parameter.numel() for parameter in self.parameters())
