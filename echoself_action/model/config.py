"""The shape of a GPT-2, in terms that need no PyTorch: who reads or publishes a folder computes nothing."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

Activation = Literal["gelu_new", "gelu"]


@dataclass(frozen=True)
class GPT2Config:
    """The shape of a model.

    `activation` is the exact GELU, which costs a CPU a third of what its approximation by tanh does, or that (`gelu_new`), as
    OpenAI trained GPT-2.
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
        """The same model with another rate of dropout."""
        return replace(self, dropout=dropout)

    def flops_per_token(self) -> float:
        """Of a training step: 6 for each weight in a product, and attention's (Chowdhery et al. 2022, appendix B)."""
        weights = 12 * self.n_layer * self.n_embd**2 + self.vocab_size * self.n_embd
        return 6.0 * weights + 12 * self.n_layer * self.n_embd * self.block_size
