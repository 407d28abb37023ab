"""Each test with the fixture `isa` runs once for every instruction set that this CPU can use."""

from collections.abc import Iterator

import pytest
import torch

from echoself_action import native


@pytest.fixture(params=list(native._usable()) or ["none"])
def isa(native_code: None, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The instruction set that ECHOSELF_ISA names."""
    monkeypatch.setenv("ECHOSELF_ISA", request.param)
    return str(request.param)


@pytest.fixture
def dtype(isa: str) -> torch.dtype:
    """The dtype of its matrix products."""
    return native.DTYPES[isa]


@pytest.fixture(autouse=True)
def _same_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
