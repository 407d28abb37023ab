"""What people brought: ../shared/cases has the files, and each module beside this one builds further cases of its kind."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def cases(shared: Path) -> Path:
    """The folder of the reported cases: checkpoints/<case> with a reference.npz, and corpus/<case>."""
    return shared / "cases"
