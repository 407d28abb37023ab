"""A Hub: its endpoint, and the client that is bound to it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from huggingface_hub import HfApi

PUBLIC_ENDPOINT = "https://huggingface.co"
Kind = Literal["model", "dataset", "space"]


@dataclass(frozen=True)
class Hub:
    """A Hub and the client for it.

    `folder` is where a local Hub keeps its repos. `log` gets a line for every retry. `kind` is the type of repo that requests
    are about: a model and a dataset may have the same name.
    """

    api: "HfApi"
    endpoint: str
    has_token: bool
    folder: Path | None = None
    log: Callable[[str], None] = print
    kind: Kind = "model"

    def url(self, repo_id: str) -> str:
        """The page of a repo."""
        return f"{self.endpoint}/{self.repo_path(repo_id)}"

    def repo_path(self, repo_id: str) -> str:
        """The path of a repo in URLs."""
        return repo_id if self.kind == "model" else f"{self.kind}s/{repo_id}"
