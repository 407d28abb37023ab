"""The configuration of a GPT-2. It does not import PyTorch, because reading and publishing a model folder compute nothing."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

Activation = Literal["gelu_new", "gelu"]


@dataclass(frozen=True)
class GPT2Config:
    """The sizes and options of a GPT-2.

    `activation` is `gelu`, the exact GELU, or `gelu_new`, its tanh approximation with which OpenAI trained GPT-2.
    docs/recipe.md says why new models have the exact one.
    """

    model_type: ClassVar[Literal["gpt2"]] = "gpt2"

    vocab_size: int
    block_size: int
    n_layer: int
    n_head: int
    n_embd: int
    dropout: float = 0.0
    bias: bool = True
    activation: Activation = "gelu"
    layer_norm_epsilon: float = 1e-5

    def with_dropout(self, dropout: float) -> "GPT2Config":
        """A copy with another dropout rate."""
        return replace(self, dropout=dropout)

    def flops_per_token(self) -> float:
        """FLOPs of a training step per token: 6 per matrix weight, plus attention (Chowdhery et al. 2022, appendix B)."""
        weights = 12 * self.n_layer * self.n_embd**2 + self.vocab_size * self.n_embd
        return 6.0 * weights + 12 * self.n_layer * self.n_embd * self.block_size
