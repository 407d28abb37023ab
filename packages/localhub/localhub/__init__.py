"""A Hugging Face Hub on loopback: the protocol of `huggingface_hub`, over bare git repos and a folder of large files.

For tests against the real client with no mocks, and for trying things out without an account or a network.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .accounts import Account
    from .server import LocalHub
    from .trusted_publishing import TrustedPublishing
    from .users import Organisation
    from .web import Limits

__all__ = ["Account", "Limits", "LocalHub", "Organisation", "TrustedPublishing"]

if not TYPE_CHECKING:
    # pytest imports the plugin in this package wherever it is installed, also for tests that need no Hub: the server and
    # libgit2 are imported with the first name that is used
    _MODULES = {
        "Account": "accounts",
        "Limits": "web",
        "LocalHub": "server",
        "Organisation": "users",
        "TrustedPublishing": "trusted_publishing",
    }

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f".{_MODULES[name]}", __name__), name)
