from collections.abc import Iterator
from pathlib import Path

import pytest

from .server import GitHub, job_environment, running


@pytest.fixture
def github() -> Iterator[GitHub]:
    with running() as server:
        yield server


@pytest.fixture
def environment(github: GitHub, tmp_path: Path) -> dict[str, str]:
    """The variables of a job that a run of its own repository triggered."""
    return job_environment(github, tmp_path)
