from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from echoself_action.hub.client import open_hub
from echoself_action.hub.endpoint import Hub


@pytest.fixture(autouse=True)
def _impatient(short_waits: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits are short, and a Hub that is silent for half a second is given up."""
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "0.5")
    for name in ("HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT"):  # the client reads its environment once
        monkeypatch.setattr(constants, name, 0.5)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """An empty Hub on this machine, over HTTP."""
    with open_hub(str(tmp_path / "hub"), None) as hub:
        yield hub
