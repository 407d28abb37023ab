"""Tokens -> logits. Every model here has `logits`, `loss`, `advance`, `initialise`, `parameter_count`, `label_shift`, and
`incremental`, for who asks for a token after the other."""

from typing import TYPE_CHECKING, TypeAlias

from .config import GPT2Config

if TYPE_CHECKING:  # they load PyTorch and transformers, which takes seconds: whoever needs them imports them
    from .gpt2 import GPT2
    from .nanecho import NanEchoConfig, NanEchoForCausalLM

Model: TypeAlias = "GPT2 | NanEchoForCausalLM"
ModelConfig: TypeAlias = "GPT2Config | NanEchoConfig"
