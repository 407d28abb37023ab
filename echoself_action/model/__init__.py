"""Tokens -> logits. Every model here has `logits`, `loss`, `advance`, `initialise`, `parameter_count` and `label_shift`."""

from typing import TYPE_CHECKING, TypeAlias

from .gpt2 import GPT2, GPT2Config

if TYPE_CHECKING:  # nanecho loads transformers, which takes seconds: whoever needs it imports it
    from .nanecho import NanEchoConfig, NanEchoForCausalLM

Model: TypeAlias = "GPT2 | NanEchoForCausalLM"
ModelConfig: TypeAlias = "GPT2Config | NanEchoConfig"
