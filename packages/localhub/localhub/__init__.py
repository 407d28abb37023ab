"""A Hugging Face Hub on loopback: the protocol of `huggingface_hub`, over bare git repos and a folder of large files.

For tests against the real client with no mocks, and for trying things out without an account or a network.
"""

from .accounts import Account
from .server import LocalHub
from .trusted_publishing import TrustedPublishing
from .web import Limits

__all__ = ["Account", "Limits", "LocalHub", "TrustedPublishing"]
