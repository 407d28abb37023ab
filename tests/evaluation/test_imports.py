"""Importing the evaluation package loads PyTorch only if something is computed."""

import subprocess
import sys

import pytest

from echoself_action import evaluation


@pytest.mark.parametrize("module", ["evaluation", "evaluation.held_out", "evaluation.gate", "publishing.plan", "modes.deploy"])
def test_importing_loads_no_pytorch(module: str) -> None:
    program = f"import sys, echoself_action.{module}; print(*{{'torch', 'transformers'}} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


@pytest.mark.parametrize("name", evaluation.__all__)
def test_every_exported_name_can_be_used(name: str) -> None:
    assert callable(getattr(evaluation, name))


def test_a_misspelled_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'check_partiy'"):
        evaluation.check_partiy  # type: ignore[attr-defined]  # noqa: B018
