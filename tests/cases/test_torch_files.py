"""PyTorch files as people have them: objects of their classes, other pickle protocols, older files, other programs' files."""

import argparse
import enum
import importlib
import sys
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from echoself_action.errors import CheckpointError
from echoself_action.formats.import_checkpoint import read_checkpoint_file
from echoself_action.formats.torch_file.archive import open_archive
from echoself_action.formats.torch_file.pickle_check import check_pickle
from echoself_action.formats.torch_file.stub import StubObject, name_of
from echoself_action.formats.torch_file.unpickle import unpickle


class Activation(enum.Enum):
    GELU = "gelu"


@dataclass
class Config:
    n_layer: int = 2
    activation: Activation = Activation.GELU
    inner: dict[str, int] = field(default_factory=lambda: {"n_head": 2})


class AttributeDict(dict[str, Any]):
    """As Lightning's."""


class Layers(list[int]):
    pass


class Slotted:
    __slots__ = ("n_head", "n_layer")

    def __init__(self) -> None:
        self.n_layer, self.n_head = 2, 4


class Runs:
    """Its pickle would write a file."""

    def __reduce__(self) -> Any:
        return print, ("code was run",)


def content_of(path: Path) -> Any:
    archive = open_archive(path)
    check_pickle(archive)
    return unpickle(archive)


def saved(content: object, path: Path, protocol: int = 2) -> Path:
    torch.save(content, path, pickle_protocol=protocol)
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_an_object_is_read_as_a_mapping_without_its_class(protocol: int, tmp_path: Path) -> None:
    parsed = argparse.Namespace(n_layer=2, nested=types.SimpleNamespace(n_head=4))
    config = Config()
    config.inner["self"] = config  # type: ignore[assignment]  # objects may refer to each other
    content = {"a": config, "b": AttributeDict(n_layer=3), "c": Layers([1, 2]), "d": Slotted(), "e": parsed, "f": torch.nn.GELU}
    found = content_of(saved(content, tmp_path / "ckpt.pt", protocol))
    assert {name: name_of(value) for name, value in found.items()} == {
        **{name: f"{__name__}.{kind.__name__}" for name, kind in (("a", Config), ("b", AttributeDict))},
        **{name: f"{__name__}.{kind.__name__}" for name, kind in (("c", Layers), ("d", Slotted))},
        **{"e": "argparse.Namespace", "f": "torch.nn.modules.activation.GELU"},
    }
    assert isinstance(found["a"], Mapping)
    assert not isinstance(found["a"], Config)
    assert list(found["a"]) == ["n_layer", "activation", "inner"]
    assert found["a"].get("n_layer") == 2
    assert found["a"]["activation"].arguments == ("gelu",)
    assert found["a"]["inner"] == {"n_head": 2, "self": found["a"]}
    assert found["b"]["n_layer"] == 3
    assert found["c"].elements == [1, 2]
    assert dict(found["d"]) == {"n_layer": 2, "n_head": 4}
    assert found["e"]["nested"]["n_head"] == 4
    assert isinstance(found["e"]["nested"], StubObject)
    assert repr(found["a"]) == f"<{__name__}.Config object>"


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_function_that_an_object_calls_is_refused_by_name(
    protocol: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved({"config": Runs()}, tmp_path / "ckpt.pt", protocol)
    with pytest.raises(CheckpointError, match=r"uses (builtins|__builtin__)\.print"):
        content_of(path)
    assert "code was run" not in capsys.readouterr().out


def test_no_module_that_a_file_names_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "bait.py").write_text("class Config:\n    pass\n")
    path = saved({"config": importlib.import_module("bait").Config()}, tmp_path / "ckpt.pt")
    del sys.modules["bait"]
    assert name_of(content_of(path)["config"]) == "bait.Config"
    assert "bait" not in sys.modules


def test_a_whole_model_is_refused_with_what_to_save(tmp_path: Path) -> None:
    path = saved(torch.nn.Linear(2, 2), tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"a whole object \(of the class torch\.nn\.modules\.linear\.Linear\)") as caught:
        read_checkpoint_file(path, print)
    assert "model.state_dict()" in str(caught.value.hint)
