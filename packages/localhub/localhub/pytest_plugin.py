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

_HUB, _API, _DATASETS = "huggingface_hub.constants", "huggingface_hub.hf_api", "datasets.config"
_XET = "huggingface_hub.utils._xet"


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
    """Points the client's libraries at a Hub: by environment variables, and by their constants where they read them earlier."""
    cache, token_file = str(folder / "cache"), str(folder / "token")
    variables = {
        "HF_ENDPOINT": url,
        "HF_TOKEN": token,
        "HF_HUB_CACHE": cache,
        "HF_DATASETS_CACHE": str(folder / "datasets"),
        "HF_TOKEN_PATH": token_file,
        "HF_HUB_OFFLINE": "0",
        "HF_XET_CACHE": str(folder / "xet"),
    }
    constants: dict[str, dict[str, object]] = {
        _HUB: {
            "ENDPOINT": url,
            "HUGGINGFACE_CO_URL_TEMPLATE": url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": cache,
            "HF_TOKEN_PATH": token_file,
            "HF_HUB_OFFLINE": False,
            "HF_XET_CACHE": str(folder / "xet"),
        },
        _DATASETS: {
            "HF_ENDPOINT": url,
            "HUB_DATASETS_URL": url + "/datasets/{repo_id}/resolve/{revision}/{path}",
            "HF_DATASETS_CACHE": folder / "datasets",
            "HF_HUB_OFFLINE": False,
        },
    }
    imported, has_xet = constants.keys() & sys.modules.keys(), _XET in sys.modules
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in variables.items():
            patch.setenv(variable, value)
        patch.delenv("HF_OIDC_RESOURCE", raising=False)  # it would outrank HF_TOKEN
        for module in imported:
            for name, constant in constants[module].items():
                patch.setattr(sys.modules[module], name, constant)
        if has_xet:  # hf_xet reads its environment when a session begins
            for name, fresh in _fresh_session().items():
                patch.setattr(sys.modules[_XET], name, fresh)
        if _API in sys.modules:  # the functions of the module, such as huggingface_hub.upload_file, are methods of it
            patch.setattr(sys.modules[_API].api, "endpoint", url)
        yield
    for module in constants:  # in this order: datasets copies settings of huggingface_hub
        # the test imported it, with the settings above: let it read the environment again, which is the user's own now
        if module not in imported and module in sys.modules:
            importlib.reload(sys.modules[module])
    if _XET in sys.modules and not has_xet:
        vars(sys.modules[_XET]).update(_fresh_session())
    if _API in sys.modules and _HUB not in imported:
        sys.modules[_API].api.endpoint = sys.modules[_HUB].ENDPOINT


def _fresh_session() -> dict[str, object]:
    """What huggingface_hub keeps of uploads by Xet, as it is before the first one: the session and its tokens.

    A Hub may get the port of an earlier one, whose tokens it does not accept. Older clients have less of it.
    """
    xet = vars(sys.modules[_XET])
    fresh = {"_GLOBAL_XET_HOLDER": xet.get("XetSessionHolder"), "XET_CONNECTION_INFO_CACHE": dict}
    return {name: make() for name, make in fresh.items() if name in xet and make is not None}
