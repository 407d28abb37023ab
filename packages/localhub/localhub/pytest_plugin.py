"""The pytest plugin: `localhub` gives a test a running Hub of its own, and points huggingface_hub at it.

pytest imports this module in every environment that has localhub. So it imports neither the server nor huggingface_hub, which
reads its settings once, when it is imported: a conftest.py can still change them.
"""

import importlib
import secrets
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from .server import LocalHub

_CONSTANTS, _API = "huggingface_hub.constants", "huggingface_hub.hf_api"


@dataclass(frozen=True)
class RunningHub:
    """A Hub that answers at `url` until the test ends. `token`: of the user `local`, who may write to every namespace."""

    url: str
    token: str
    folder: Path
    _server: "LocalHub"

    @property
    def api(self) -> "HfApi":
        """The client of the user `local`. Imports huggingface_hub."""
        from huggingface_hub import HfApi

        return HfApi(self.url, token=self.token)

    def user(
        self,
        name: str,
        role: Literal["read", "write", "fineGrained"] = "write",
        *,
        orgs: Iterable[str] = (),
        repos: Iterable[str] = (),
    ) -> str:
        """A new token of the user `name`, who owns the namespaces `name` and `orgs`.

        repos: what a fineGrained token may read and write, such as "me/model" and "datasets/me/data".
        """
        from .accounts import Account

        token = f"hf_{secrets.token_hex(16)}"
        self._server.accounts.add(token, Account(name, role, frozenset({name, *orgs}), frozenset(repos)))
        return token


@pytest.fixture
def localhub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """A running Hub without repos, for one test. Inside it, huggingface_hub uses this Hub, its token and an empty cache."""
    with _running(tmp_path_factory.mktemp("localhub")) as hub:
        yield hub


@pytest.fixture(scope="session")
def localhub_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """As `localhub`, one for all tests of the session: they share its repos, its users and the client's cache."""
    with _running(tmp_path_factory.mktemp("localhub_session")) as hub:
        yield hub


@contextmanager
def _running(folder: Path) -> Iterator[RunningHub]:
    from .server import LocalHub

    token = f"hf_{secrets.token_hex(16)}"
    with LocalHub(folder / "hub", token) as server, _redirected(server.url, token, folder):
        yield RunningHub(server.url, token, folder / "hub", server)


@contextmanager
def _redirected(url: str, token: str, folder: Path) -> Iterator[None]:
    """Points huggingface_hub at a Hub, by its environment variables, and by its constants if it is imported already."""
    cache, token_file = str(folder / "cache"), str(folder / "token")
    imported = _CONSTANTS in sys.modules
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in {
            "HF_ENDPOINT": url,
            "HF_TOKEN": token,
            "HF_HUB_CACHE": cache,
            "HF_TOKEN_PATH": token_file,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
        }.items():
            patch.setenv(variable, value)
        # it would outrank HF_TOKEN
        patch.delenv("HF_OIDC_RESOURCE", raising=False)
        if imported:
            constants = sys.modules[_CONSTANTS]
            for name, constant in {
                "ENDPOINT": url,
                "HUGGINGFACE_CO_URL_TEMPLATE": url + "/{repo_id}/resolve/{revision}/{filename}",
                "HF_HUB_CACHE": cache,
                "HF_TOKEN_PATH": token_file,
                "HF_HUB_OFFLINE": False,
                "HF_HUB_DISABLE_XET": True,
            }.items():
                patch.setattr(constants, name, constant)
            if _API in sys.modules:  # the functions of the module, such as huggingface_hub.upload_file, are methods of it
                patch.setattr(sys.modules[_API].api, "endpoint", url)
        yield
    if not imported and _CONSTANTS in sys.modules:
        # the test imported it, with the settings above: read the environment again, which is the user's own now
        constants = importlib.reload(sys.modules[_CONSTANTS])
        if _API in sys.modules:
            sys.modules[_API].api.endpoint = constants.ENDPOINT
