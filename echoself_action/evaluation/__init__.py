"""Evaluation: held-out loss, comparisons of models, parity with transformers, and generated samples.

Modules that load PyTorch are imported at the first use of one of their names, so that modes which publish or download without
computing do not load it. Such modes write `from .. import evaluation` and call `evaluation.NAME(...)`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..libraries import loading_code

if TYPE_CHECKING:
    from .echo_fidelity import measure_fidelity
    from .generation import sample, sample_from
    from .introspection import with_introspection
    from .loss import HeldOut, bits_per_byte_of, bytes_per_token
    from .paired_bootstrap import Difference, LanguageModel, compare, difference, load_language_model, score
    from .parity import check_parity
    from .questions.ask import ask_questions

__all__ = [
    "Difference",
    "HeldOut",
    "LanguageModel",
    "ask_questions",
    "bits_per_byte_of",
    "bytes_per_token",
    "check_parity",
    "compare",
    "difference",
    "load_language_model",
    "measure_fidelity",
    "sample",
    "sample_from",
    "score",
    "with_introspection",
]

_MODULE_OF = {
    "Difference": "paired_bootstrap",
    "HeldOut": "loss",
    "LanguageModel": "paired_bootstrap",
    "ask_questions": "questions.ask",
    "bits_per_byte_of": "loss",
    "bytes_per_token": "loss",
    "check_parity": "parity",
    "compare": "paired_bootstrap",
    "difference": "paired_bootstrap",
    "load_language_model": "paired_bootstrap",
    "measure_fidelity": "echo_fidelity",
    "sample": "generation",
    "sample_from": "generation",
    "score": "paired_bootstrap",
    "with_introspection": "introspection",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:  # PEP 562
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        with loading_code():
            return getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
