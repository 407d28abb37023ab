"""A Hub: its endpoint, and the client that is bound to it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from huggingface_hub import HfApi

PUBLIC_ENDPOINT = "https://huggingface.co"


@dataclass(frozen=True)
class Hub:
    """A Hub and the client that sends requests to it.

    `folder` is where a local Hub keeps its repos. `say` is called with a line for every retry. `kind` is the type of repo that
    requests are about: a model and a dataset may have the same name.
    """

    api: "HfApi"
    endpoint: str
    has_token: bool
    folder: Path | None = None
    say: Callable[[str], None] = print
    kind: Literal["model", "dataset"] = "model"

    def url(self, repo_id: str) -> str:
        return f"{self.endpoint}/{self.named(repo_id)}"

    def named(self, repo_id: str) -> str:
        """The repo as it appears in URLs."""
        return repo_id if self.kind == "model" else f"datasets/{repo_id}"
