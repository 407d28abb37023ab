"""PyTorch files as people have them: objects of their classes, other pickle protocols, older files, other programs' files."""

import argparse
import collections
import datetime
import enum
import functools
import importlib
import io
import pickle
import sys
import types
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.trainer_utils import IntervalStrategy

from echoself_action.checkpoint.model_folder import ModelFolder
from echoself_action.errors import CheckpointError
from echoself_action.formats.import_checkpoint import import_checkpoint, read_checkpoint_file
from echoself_action.formats.imported_model import Given
from echoself_action.formats.torch_file.archive import open_archive
from echoself_action.formats.torch_file.pickle_check import check_pickle
from echoself_action.formats.torch_file.stub import StubObject, name_of
from echoself_action.formats.torch_file.unpickle import unpickle
from tests.formats.foreign_files import nanogpt_checkpoint

from ..conftest import Cli
from .reference import assert_exact, assert_reference, gpt2_logits, some_ids


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


def nanogpt_weights(vocab_size: int = 64) -> dict[str, torch.Tensor]:
    """nanoGPT's state dict of a model of SIZES, with numbers large enough for the two GELUs to differ."""
    return {name: 3 * tensor for name, tensor in nanogpt_checkpoint(vocab_size=vocab_size)["model"].items()}


def expected(weights: Mapping[str, torch.Tensor], activation: str) -> Any:
    plain = {name.removeprefix("transformer."): tensor.float() for name, tensor in weights.items()}
    turned = {name: tensor.t() if tensor.ndim == 2 and name.startswith("h.") else tensor for name, tensor in plain.items()}
    size = plain["wte.weight"].shape[0]
    return gpt2_logits({name: tensor.numpy() for name, tensor in turned.items()}, some_ids(size), 2, activation)


def assert_imported(path: Path, tmp_path: Path, weights: Mapping[str, torch.Tensor], activation: str) -> ModelFolder:
    folder = import_checkpoint(path, tmp_path / "out", None, print)
    assert_exact(folder.path, some_ids(folder.config.vocab_size), expected(weights, activation))
    return folder


def test_a18i_proto5_is_imported(cases: Path, tmp_path: Path) -> None:
    case = cases / "checkpoints" / "a18i_proto5"
    folder = import_checkpoint(case / "ckpt.pt", tmp_path, None, print)
    assert_reference(folder.path, case)
    assert folder.step == 100
    assert folder.has_training_state


@pytest.mark.parametrize("name", ["ckpt.pt", "model.pth", "pytorch_model.bin", "last.ckpt"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("as_zip", [True, False], ids=["zip", "before 1.6"])
def test_every_protocol_container_and_suffix_is_imported(name: str, protocol: int, as_zip: bool, tmp_path: Path) -> None:
    content = nanogpt_checkpoint() | {"model": nanogpt_weights()}
    path = tmp_path / name
    torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=as_zip)
    folder = assert_imported(path, tmp_path, content["model"], "gelu")
    assert folder.step == 7
    assert folder.has_training_state


VALUES: dict[str, Callable[[], object]] = {
    "torch.device": lambda: torch.device("cuda:0"),
    "torch.dtype": lambda: torch.bfloat16,
    "torch.Size": lambda: torch.Size([2, 3]),
    "NumPy float": lambda: np.float64(0.5),
    "NumPy int": lambda: np.int32(5),
    "NumPy bool": lambda: np.bool_(True),
    "NumPy array": lambda: np.arange(6).reshape(2, 3),
    "NumPy array in Fortran's order": lambda: np.asfortranarray(np.ones((2, 3))),
    "empty NumPy array": lambda: np.zeros((0, 3)),
    "NumPy strings": lambda: np.array(["a", "bc"]),
    "NumPy complex": lambda: np.complex64(1j),
    "NumPy half": lambda: np.float16(1.5),
    "NumPy bytes": lambda: np.bytes_(b"ab"),
    "NumPy date": lambda: np.datetime64("2026-01-01"),
    "NumPy dates": lambda: np.array(["2026-01-01"], dtype="datetime64[D]"),
    "NumPy objects": lambda: np.array([1, None], dtype=object),
    "NumPy records": lambda: np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f4")]),
    "NumPy type": lambda: np.float32,
    "NumPy dtype": lambda: np.dtype("float32"),
    "NumPy's random state": lambda: np.random.RandomState(0),
    "NumPy's generator": lambda: np.random.default_rng(0),
    "torch random state": torch.get_rng_state,
    "path": lambda: Path("/data") / "out",
    "date": lambda: datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    "set": lambda: {1, 2},
    "frozenset": lambda: frozenset("ab"),
    "bytes": lambda: b"\x00\xff",
    "bytearray": lambda: bytearray(b"\x00\xff"),
    "range": lambda: range(3),
    "complex": lambda: 1j,
    "None and nesting": lambda: {"a": [None, (1, {"b": ()})]},
    "defaultdict": lambda: collections.defaultdict(list, {"a": [1]}),
    "Counter": lambda: collections.Counter("aab"),
    "deque": lambda: collections.deque([1, 2], maxlen=3),
    "partial": lambda: functools.partial(torch.optim.AdamW, lr=1e-3),
    "class": lambda: torch.optim.AdamW,
    "function": lambda: torch.nn.functional.gelu,
    "enum": lambda: Activation.GELU,
    "parameter": lambda: torch.nn.Parameter(torch.ones(2)),
    "tensor with an attribute": lambda: _with_attribute(torch.ones(2)),
    "uint16 tensor": lambda: torch.arange(5).to(torch.uint16),
    "float8 tensor": lambda: torch.ones(3).to(torch.float8_e4m3fn),
    "complex tensor": lambda: torch.ones(3, dtype=torch.complex64),
    "module": lambda: torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.GELU()),
    "config of Transformers": lambda: GPT2Config(n_layer=2, n_head=2, n_embd=16),
    "arguments of Transformers": lambda: IntervalStrategy.STEPS,
    "optimizer object": lambda: torch.optim.SGD([torch.nn.Parameter(torch.ones(1))]),
}


def _with_attribute(tensor: torch.Tensor) -> torch.Tensor:
    tensor.lr_mul = 2.0  # type: ignore[attr-defined]
    return tensor


@pytest.mark.parametrize(
    ("protocol", "as_zip"), [(1, True), (2, True), (5, True), (2, False), (5, False)], ids=lambda one: str(one)
)
def test_a_setting_of_any_type_does_not_cost_the_model(protocol: int, as_zip: bool, tmp_path: Path) -> None:
    for name, value in VALUES.items():
        content = nanogpt_checkpoint()
        content["config"] |= {"wandb_notes": value()}
        path = tmp_path / "ckpt.pt"
        torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=as_zip)
        assert read_checkpoint_file(path, print).step == 7, name


@pytest.mark.parametrize("protocol", [2, 5])
def test_sizes_and_steps_may_be_numpy_scalars(protocol: int, tmp_path: Path) -> None:
    content = nanogpt_checkpoint() | {"model": nanogpt_weights(), "iter_num": np.int64(9), "best_val_loss": np.float32(2.5)}
    content["model_args"] |= {"n_head": np.int64(2), "n_layer": np.int32(2), "bias": np.bool_(True), "dropout": np.float32(0.0)}
    folder = assert_imported(saved(content, tmp_path / "ckpt.pt", protocol), tmp_path, content["model"], "gelu")
    assert folder.step == 9


@pytest.mark.parametrize("layout", ["nanoGPT", "another trainer"])
def test_a_step_may_be_a_tensor(layout: str, tmp_path: Path) -> None:
    content: dict[str, Any] = nanogpt_checkpoint() | {"model": nanogpt_weights(), "iter_num": torch.tensor(9)}
    if layout != "nanoGPT":
        content = {"model": content["model"], "config": content["model_args"], "step": torch.tensor([9])}
    folder = assert_imported(saved(content, tmp_path / "ckpt.pt"), tmp_path, content["model"], "gelu")
    assert folder.step == 9


def test_values_of_pytorch_and_numpy_are_read_as_plain_ones(tmp_path: Path) -> None:
    for protocol in (2, 3, 4, 5):
        made = {name: value() for name, value in VALUES.items()}
        found = content_of(saved(made, tmp_path / "ckpt.pt", protocol))
        assert found["torch.device"] == "cuda:0"
        assert found["torch.dtype"] == "bfloat16"
        assert found["torch.Size"] == (2, 3)
        assert found["NumPy float"] == 0.5
        assert np.array_equal(found["NumPy array"], made["NumPy array"])
        assert np.array_equal(found["NumPy array in Fortran's order"], np.ones((2, 3)))
        assert found["NumPy strings"].tolist() == ["a", "bc"]
        assert found["path"] == "/data/out"
        assert set(found["set"]) == {1, 2}
        assert found["bytearray"] == b"\x00\xff"
        assert found["deque"] == [1, 2]
        assert name_of(found["class"]) == "torch.optim.adamw.AdamW"
        assert found["tensor with an attribute"].tolist() == [1, 1]
        assert found["uint16 tensor"].tolist() == [0, 1, 2, 3, 4]
        assert found["complex tensor"].tolist() == [1, 1, 1]
        assert found["NumPy complex"] == 1j
        assert found["NumPy objects"].dtype.names == ("unread",)


class PicklerOf(pickle._Pickler):  # type: ignore[name-defined, misc]  # Python's own, whose parts can be replaced
    """Stores the names of NumPy's functions as a version of NumPy does."""

    module = ""

    def save_global(self, obj: Any, name: str | None = None) -> None:
        if not obj.__module__.startswith("numpy._core"):
            super().save_global(obj, name)
            return
        module = obj.__module__.replace("numpy._core", self.module)
        if self.proto >= 4:
            self.save(module)
            self.save(obj.__name__)
            self.write(pickle.STACK_GLOBAL)
        else:
            self.write(pickle.GLOBAL + f"{module}\n{obj.__name__}\n".encode())
        self.memoize(obj)


@pytest.mark.parametrize("module", ["numpy.core", "numpy._core"], ids=["NumPy 1", "NumPy 2"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_both_names_of_numpys_modules_are_read(module: str, protocol: int, tmp_path: Path) -> None:
    target = io.BytesIO()
    pickler = PicklerOf(target, protocol)
    pickler.module = module
    pickler.dump({"a": np.float64(1.5), "b": np.arange(3)})
    assert f"{module}.".encode() in target.getvalue()
    with zipfile.ZipFile(tmp_path / "ckpt.pt", "w") as archive:
        archive.writestr("ckpt/data.pkl", target.getvalue())
    found = content_of(tmp_path / "ckpt.pt")
    assert found["a"] == 1.5
    assert found["b"].tolist() == [0, 1, 2]


CONFIG = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 16, "vocab_size": 64, "bias": True, "dropout": 0.0}


def lightning(prefix: str, hyper_parameters: object) -> dict[str, Any]:
    """As Lightning's Trainer saves a module around a nanoGPT."""
    state = {"monitor": "val_loss", "best_model_score": torch.tensor(2.5), "dirpath": "/home/me", "best_k_models": {}}
    loops = {"fit_loop": {"state_dict": {}, "epoch_loop.batch_progress": {"total": {"ready": 7, "completed": 7}}}}
    return {
        **{"epoch": 1, "global_step": 7, "pytorch-lightning_version": "2.5.1", "loops": loops, "lr_schedulers": []},
        **{"callbacks": {"ModelCheckpoint{'monitor': 'val_loss'}": state}, "hparams_name": "kwargs"},
        "state_dict": collections.OrderedDict({prefix + name: tensor for name, tensor in nanogpt_weights().items()}),
        "optimizer_states": [nanogpt_checkpoint()["optimizer"]],
        "hyper_parameters": hyper_parameters,
    }


@dataclass
class GPTConfig:
    n_layer: int = 2
    n_head: int = 2
    n_embd: int = 16
    block_size: int = 16
    vocab_size: int = 64
    bias: bool = True
    dropout: float = 0.0


def of_omegaconf(values: Any) -> object:
    """As OmegaConf wraps values: each node knows its parent. The classes only have its names."""
    kinds = {"DictConfig": "omegaconf.dictconfig", "ListConfig": "omegaconf.listconfig", "AnyNode": "omegaconf.nodes"}
    sys.modules.setdefault("omegaconf", types.ModuleType("omegaconf"))
    for name, place in kinds.items():
        module = sys.modules.setdefault(place, types.ModuleType(place))
        module.__dict__.setdefault(name, type(name, (), {"__module__": place}))

    def wrapped(value: Any, parent: Any) -> Any:
        name = {dict: "DictConfig", list: "ListConfig"}.get(type(value), "AnyNode")
        node = vars(sys.modules[kinds[name]])[name]()
        node.__dict__ |= {"_metadata": {"object_type": dict, "element_type": Any}, "_parent": parent}
        if isinstance(value, dict):
            node._content = {key: wrapped(inner, node) for key, inner in value.items()}
        elif isinstance(value, list):
            node._content = [wrapped(inner, node) for inner in value]
        else:
            node._val = value
        return node

    return wrapped(values, None)


def test_a_config_of_omegaconf_is_read_as_its_values(tmp_path: Path) -> None:
    values = {"n_layer": 2, "betas": [0.9, 0.95], "model": {"n_head": 3, "name": None}}
    for protocol in (2, 5):
        found = content_of(saved({"config": of_omegaconf(values)}, tmp_path / "ckpt.pt", protocol))["config"]
        assert dict(found) | {"model": dict(found["model"])} == values


LIGHTNING: dict[str, tuple[str, Callable[[], object]]] = {
    "model., plain settings": ("model.", lambda: {"learning_rate": 1e-3, **CONFIG}),
    "model., compiled": ("model._orig_mod.", lambda: {"learning_rate": 1e-3, **CONFIG}),
    "net., a nested dict": ("net.", lambda: {"config": CONFIG, "lr": 1e-3}),
    "no prefix, a dataclass": ("", lambda: {"config": GPTConfig()}),
    "a long prefix, a namespace": ("module.gpt.", lambda: {"args": argparse.Namespace(**CONFIG, lr=1e-3)}),
    "model., Hydra's cfg": ("model.", lambda: {"cfg": {"model": CONFIG, "trainer": {"max_epochs": 3}}}),
    "model., OmegaConf": ("model.", lambda: {"cfg": of_omegaconf({"model": CONFIG})}),
    "model., AttributeDict": ("model.", lambda: AttributeDict(CONFIG)),
    "model., a partial optimizer": ("model.", lambda: {"optimizer": functools.partial(torch.optim.AdamW, lr=1e-3), **CONFIG}),
}


@pytest.mark.parametrize("name", LIGHTNING)
@pytest.mark.parametrize("protocol", [2, 5])
def test_a_checkpoint_of_lightning_is_imported(
    name: str, protocol: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prefix, settings = LIGHTNING[name]
    path = saved(lightning(prefix, settings()), tmp_path / "last.ckpt", protocol)
    folder = assert_imported(path, tmp_path, nanogpt_weights(), "gelu")
    assert folder.step == 7
    assert folder.metadata
    assert folder.metadata.imported_from
    assert folder.metadata.imported_from.layout == "PyTorch Lightning"
    assert "optimizer state not imported" in capsys.readouterr().out


TRANSFORMERS: dict[str, Callable[[dict[str, Any], GPT2Config], dict[str, Any]]] = {
    "a dict": lambda state, config: {"model": state, "config": config.to_dict()},
    "an object": lambda state, config: {"model": state, "config": config},
    "what differs": lambda state, config: {"model_state_dict": state, "config": config.to_diff_dict(), "epoch": 1},
    "in Lightning": lambda state, config: {
        **{"state_dict": {f"model.{name}": tensor for name, tensor in state.items()}, "pytorch-lightning_version": "2.5"},
        **{"hyper_parameters": {"config": config, "lr": 1e-3}, "global_step": 3},
    },
}


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_model_of_transformers_with_its_config_is_imported(name: str, tmp_path: Path) -> None:
    for activation in ("gelu_new", "gelu"):
        config = GPT2Config(**{key: value for key, value in CONFIG.items() if "_" in key} | {"n_positions": 16})
        config.activation_function = activation
        model = GPT2LMHeadModel(config)
        state = {key: 5 * tensor for key, tensor in model.state_dict().items()}
        plain = {key.removeprefix("transformer."): tensor.numpy() for key, tensor in state.items()}
        path = saved(TRANSFORMERS[name](state, config), tmp_path / "model.pt")
        folder = import_checkpoint(path, tmp_path / activation, None, print)
        assert_exact(folder.path, some_ids(64), gpt2_logits(plain, some_ids(64), 2, activation))


def test_a_config_of_transformers_that_changes_the_arithmetic_is_refused(tmp_path: Path) -> None:
    config = GPT2Config(n_layer=2, n_head=2, n_embd=16, n_positions=16, vocab_size=64, scale_attn_by_inverse_layer_idx=True)
    for name, content in TRANSFORMERS.items():
        path = saved(content(GPT2LMHeadModel(config).state_dict(), config), tmp_path / "model.pt")
        with pytest.raises(CheckpointError, match="scale_attn_by_inverse_layer_idx=True"):
            read_checkpoint_file(path, print)
        assert name


def test_of_two_models_in_a_state_dict_none_is_chosen(tmp_path: Path) -> None:
    content = lightning("student.", CONFIG)
    content["state_dict"] |= {f"teacher.{name}": tensor for name, tensor in nanogpt_weights().items()}
    with pytest.raises(CheckpointError, match=r"several models in its state dict: 'student\.', 'teacher\.'"):
        read_checkpoint_file(saved(content, tmp_path / "last.ckpt"), print)


def test_a_tensor_beside_the_model_is_not_dropped_silently(tmp_path: Path) -> None:
    content = lightning("model.", CONFIG)
    content["state_dict"] |= {"criterion.weight": torch.ones(64)}
    with pytest.raises(CheckpointError, match=r"criterion\.weight is not a tensor of this model"):
        read_checkpoint_file(saved(content, tmp_path / "last.ckpt"), print)


def llmc_file(path: Path, version: int = 3, vocab_size: int = 60, **other: int) -> dict[str, torch.Tensor]:
    """As llm.c's train_gpt2.py writes it: the vocabulary padded with zeros, of each kind of tensor those of all layers.

    Returns the state dict that it was made of, in the dtype of the file.
    """
    sizes = {"block_size": 16, "vocab_size": vocab_size, "n_layer": 2, "n_head": 2, "n_embd": 16, "padded": 64}
    header = np.zeros(256, np.int32)
    header[:8] = [other.pop("magic", 20240326), version, *(sizes | other).values()]
    kind = torch.bfloat16 if version == 5 else torch.float32
    weights = {name: tensor.to(kind) for name, tensor in nanogpt_weights(vocab_size).items()}
    padded = torch.zeros(64, 16, dtype=kind)
    padded[:vocab_size] = weights["transformer.wte.weight"]
    tensors = [padded, weights["transformer.wpe.weight"]]
    for name in ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj"):
        tensors += [weights[f"transformer.h.{i}.{name}.{part}"] for part in ("weight", "bias") for i in range(2)]
    tensors += [weights["transformer.ln_f.weight"], weights["transformer.ln_f.bias"]]
    path.write_bytes(header.tobytes() + b"".join(tensor.contiguous().view(torch.uint8).numpy().tobytes() for tensor in tensors))
    return weights


@pytest.mark.parametrize("version", [3, 5], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", ["gpt2_124M.bin", "model_00000250.bin", "model"])
def test_a_model_of_llmc_is_imported_without_its_padding(version: int, name: str, tmp_path: Path) -> None:
    weights = llmc_file(tmp_path / name, version)
    (tmp_path / "state_00000250_00000.bin").touch()
    folder = assert_imported(tmp_path / name, tmp_path, weights, "gelu_new")
    assert folder.config.vocab_size == 60
    assert folder.step == (250 if "250" in name else 0)
    assert folder.metadata
    assert folder.metadata.imported_from
    remarks = " ".join(folder.metadata.imported_from.remarks)
    assert "4 padding rows" in remarks
    assert ("optimizer state not imported" in remarks) == ("250" in name)


def test_what_is_given_must_agree_with_the_header(tmp_path: Path) -> None:
    llmc_file(tmp_path / "model.bin")
    for given in (Given(n_head=4), Given(activation="gelu")):
        with pytest.raises(CheckpointError, match="was given"):
            read_checkpoint_file(tmp_path / "model.bin", print, given)
    assert read_checkpoint_file(tmp_path / "model.bin", print, Given(2, "gelu_new")).step == 0


LLMC_REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "version 1": (lambda path: llmc_file(path, 1), "version 1 of llm.c's format"),
    "version 3 of April 2024": (lambda path: llmc_file(path, 3, padded=0), "version 3 of llm.c's format as of April 2024"),
    "a tokenizer": (lambda path: llmc_file(path, magic=20240328), "holds a tokenizer"),
    "tokens": (lambda path: llmc_file(path, magic=20240520), "holds the tokens of a text"),
    "an optimizer": (lambda path: llmc_file(path, magic=20240527), "holds the state of an optimizer"),
    "Llama": (lambda path: llmc_file(path, magic=20240803), "a Llama model, which is not supported"),
    "cut": (lambda path: llmc_file(path) and path.write_bytes(path.read_bytes()[:-4]), "is damaged: it has"),
    "longer": (lambda path: llmc_file(path) and path.write_bytes(path.read_bytes() + bytes(4)), "is damaged: it has"),
    "the header alone": (lambda path: llmc_file(path) and path.write_bytes(path.read_bytes()[:100]), "less than the header"),
    "bf16 that claims fp32": (lambda path: llmc_file(path, 5) and patch(path, 1, 3), "its header describes a model of"),
    "other heads": (lambda path: llmc_file(path, n_head=3), "an invalid header"),
    "negative": (lambda path: llmc_file(path, n_layer=-1), "an invalid header"),
    "many layers": (lambda path: llmc_file(path, n_layer=2**31 - 1), "an invalid header"),
    "a wide model": (lambda path: llmc_file(path, n_embd=2**30), "its header describes a model of"),
    "NaN": (lambda path: llmc_file(path) and patch(path, 300, 0x7FC00000), "contains NaN or infinity"),
    "nanoGPT's train.bin": (lambda path: path.write_bytes(np.arange(600, 900, dtype=np.uint16).tobytes()), "give it as `data`"),
}


def patch(path: Path, place: int, number: int) -> None:
    """Replace the int32 at `place`."""
    numbers = np.fromfile(path, np.int32)
    numbers[place] = number
    numbers.tofile(path)


@pytest.mark.parametrize("name", LLMC_REFUSED)
def test_another_file_of_llmc_is_refused_by_name(name: str, tmp_path: Path) -> None:
    write, why = LLMC_REFUSED[name]
    write(tmp_path / "model.bin")
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint_file(tmp_path / "model.bin", print)
    assert why in str(caught.value)
    assert caught.value.exit_code == 3


def write_lightning(path: Path) -> None:
    saved(lightning("model.", {"cfg": argparse.Namespace(model=CONFIG)}), path, 4)


def write_old(path: Path) -> None:
    torch.save(nanogpt_checkpoint() | {"model": nanogpt_weights()}, path, _use_new_zipfile_serialization=False)


FRONT_DOOR: dict[str, tuple[Callable[[Path], object], str, int]] = {
    "model_00000250.bin": (llmc_file, "gelu_new", 250),
    "last.ckpt": (write_lightning, "gelu", 7),
    "ckpt.pth": (write_old, "gelu", 7),
}


@pytest.mark.parametrize("name", FRONT_DOOR)
def test_pull_and_deploy_take_the_file(name: str, echoself: Cli, tmp_path: Path) -> None:
    write, activation, step = FRONT_DOOR[name]
    weights = write(tmp_path / name) or nanogpt_weights()
    outputs = echoself("pull", f"--checkpoint {tmp_path / name}")
    assert outputs["step"] == str(step)
    assert_exact(Path(outputs["model_dir"]), some_ids(len(weights["transformer.wte.weight"])), expected(weights, activation))
    echoself(f"deploy --hub hub --repo-id me/m --dry-run --checkpoint {tmp_path / name}")


@pytest.mark.parametrize("command", ["pull", "deploy --hub hub --repo-id me/m --dry-run"])
def test_a_file_that_asks_for_code_is_refused_by_its_name(
    command: str, echoself: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(nanogpt_checkpoint() | {"config": Runs()}, tmp_path / "last.ckpt", 4)
    echoself(command, f"--checkpoint {path}", code=3)
    said = capsys.readouterr()
    assert "builtins.print" in said.err
    assert "code was run" not in said.out
    assert not list(Path().glob("*/checkpoint-*"))
