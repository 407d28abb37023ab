"""The language models: token ids -> logits.

Each model has `logits`, `loss`, `advance`, `initialise`, `parameter_count`, `label_shift`, and `incremental` for generation.
"""

from typing import TYPE_CHECKING, TypeAlias

from .config import GPT2Config

if TYPE_CHECKING:  # loading PyTorch and transformers takes seconds; modules that compute import these directly
    from .gpt2 import GPT2
    from .nanecho import NanEchoConfig, NanEchoForCausalLM

Model: TypeAlias = "GPT2 | NanEchoForCausalLM"
ModelConfig: TypeAlias = "GPT2Config | NanEchoConfig"
