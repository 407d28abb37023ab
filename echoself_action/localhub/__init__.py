"""A Hugging Face Hub on loopback: the protocol of `huggingface_hub`, over bare git repos and a folder of large files.

It is for trying things out with no account and no network, and for tests in which nothing is a stand-in but the host.
It imports nothing of the package around it.
"""

from .accounts import Account
from .server import LocalHub
from .trusted_publishing import TrustedPublishing
from .web import Limits

__all__ = ["Account", "Limits", "LocalHub", "TrustedPublishing"]
