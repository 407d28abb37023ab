from collections.abc import Iterator
from pathlib import Path

import pytest

from echoself_action.hub.client import Hub, open_hub


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """An empty Hub on this machine, over HTTP."""
    with open_hub(str(tmp_path / "hub"), None) as hub:
        yield hub
