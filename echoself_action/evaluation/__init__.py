"""Evaluation: held-out loss, comparisons of models, parity with transformers, and generated samples.

What computes is imported at its first use: modes that publish or fetch without computing never load PyTorch. Such modes write
`from .. import evaluation` and call `evaluation.NAME(...)`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .generation import sample, sample_of
    from .loss import HeldOut, bits_per_byte, bits_per_byte_of
    from .paired_bootstrap import Difference, Reader, compare, difference, read, reader_of
    from .parity import check_parity

__all__ = [
    "Difference",
    "HeldOut",
    "Reader",
    "bits_per_byte",
    "bits_per_byte_of",
    "check_parity",
    "compare",
    "difference",
    "read",
    "reader_of",
    "sample",
    "sample_of",
]

_MODULE_OF = {
    "Difference": "paired_bootstrap",
    "HeldOut": "loss",
    "Reader": "paired_bootstrap",
    "bits_per_byte": "loss",
    "bits_per_byte_of": "loss",
    "check_parity": "parity",
    "compare": "paired_bootstrap",
    "difference": "paired_bootstrap",
    "read": "paired_bootstrap",
    "reader_of": "paired_bootstrap",
    "sample": "generation",
    "sample_of": "generation",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:  # PEP 562
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
