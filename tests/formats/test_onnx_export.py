"""An exported ONNX model computes what its folder does, in ONNX Runtime, and its bytes depend on the model alone."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import transformers
from onnx import numpy_helper

from echoself_action.checkpoint.model_folder import ModelFolder
from echoself_action.checkpoint.weights import load_model
from echoself_action.corpus.make_tokenizer import load_tokenizer
from echoself_action.errors import CheckpointError
from echoself_action.formats.import_checkpoint import import_checkpoint
from echoself_action.formats.registry import Exported
from echoself_action.formats.runtimes.onnx_export import OPSET
from echoself_action.formats.runtimes.onnx_worker import OnnxModel
from echoself_action.formats.runtimes.runtime_formats import ONNX, ONNX_FP32, ONNX_INT8

from ..conftest import ROOT
from .foreign_files import save
from .nanecho_files import nanecho_checkpoint, state_dict
from .random_models import write_random_model

_TOTAL = "past_sequence_length + sequence_length"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelFolder, Exported]:
    """A model and its ONNX files, which nobody may change."""
    folder = write_random_model(tmp_path_factory.mktemp("made") / "model")
    return folder, ONNX.export(folder, folder.path.parent)


@pytest.mark.parametrize(
    ("tokenizer", "options"),
    [
        ("bytes", {}),
        ("characters", {"activation": "gelu_new"}),
        ("bpe:300", {"bias": False, "layer_norm_epsilon": 1e-3, "n_layer": 1, "block_size": 7}),
    ],
    ids=["exact GELU", "tanh GELU", "no biases"],
)
def test_onnxruntime_computes_the_model(tmp_path: Path, tokenizer: str, options: dict[str, object]) -> None:
    folder = write_random_model(tmp_path / "model", tokenizer, **options)
    exported = ONNX.export(folder, tmp_path)
    assert exported.files == {ONNX_FP32: tmp_path / ONNX_FP32, ONNX_INT8: tmp_path / ONNX_INT8}
    for path in exported.files.values():
        onnx.checker.check_model(path, full_check=True)
    whole, quantized = ONNX.check(folder, exported)
    assert (whole.file, quantized.file) == (ONNX_FP32, ONNX_INT8)
    assert whole.runtime.startswith("onnxruntime 1.")
    assert whole.max_abs_diff <= 1e-4
    assert whole.argmax_agreement == 1
    assert quantized.max_abs_diff > 1e-4
    assert (whole.positions, whole.texts) == (2 * folder.config.block_size, 1000)
    assert bool(whole.notes) == tokenizer.startswith("bpe")  # the others do not cut texts at spaces


def test_inputs_and_outputs_are_those_of_text_generation_with_past(made: tuple[ModelFolder, Exported]) -> None:
    for path in made[1].files.values():
        model = onnx.load(path)
        shapes = {
            one.name: [dim.dim_param or dim.dim_value for dim in one.type.tensor_type.shape.dim]
            for one in (*model.graph.input, *model.graph.output)
        }
        before, after = ["batch_size", 2, "past_sequence_length", 16], ["batch_size", 2, _TOTAL, 16]
        caches = [f"{i}.{part}" for i in (0, 1) for part in ("key", "value")]
        assert shapes == {
            "input_ids": ["batch_size", "sequence_length"],
            "attention_mask": ["batch_size", _TOTAL],
            "position_ids": ["batch_size", "sequence_length"],
            **{f"past_key_values.{cache}": before for cache in caches},
            "logits": ["batch_size", "sequence_length", 257],
            **{f"present.{cache}": after for cache in caches},
        }
        assert [(one.domain, one.version) for one in model.opset_import] == [("", OPSET)]


def test_texts_of_unequal_length_are_padded_at_their_start(made: tuple[ModelFolder, Exported]) -> None:
    ids = np.random.default_rng(0).integers(257, size=(2, 9))
    mask = np.ones_like(ids)
    mask[0, :4] = 0
    positions = np.maximum(mask.cumsum(1) - 1, 0)
    model = OnnxModel(made[1].files[ONNX_FP32])
    feeds = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
    [logits] = model.session.run(["logits"], feeds | model.empty_past(2))
    stock: Any = transformers.AutoModelForCausalLM.from_pretrained(made[0].path)
    with torch.no_grad():
        expected = stock(**{name: torch.from_numpy(value) for name, value in feeds.items()}).logits.numpy()
    assert np.abs(logits - expected)[mask == 1].max() <= 1e-4
    assert np.isfinite(logits).all()


def test_the_token_embedding_is_stored_once(tmp_path: Path) -> None:
    folder = write_random_model(tmp_path / "model", "bpe:2048", n_layer=1)
    exported = ONNX.export(folder, tmp_path)
    weights = (folder.path / "model.safetensors").stat().st_size
    assert exported.files[ONNX_FP32].stat().st_size < 1.1 * weights
    assert exported.files[ONNX_INT8].stat().st_size < 0.4 * weights


def test_an_unchanged_model_has_the_same_bytes(made: tuple[ModelFolder, Exported], tmp_path: Path) -> None:
    again = ONNX.export(made[0], tmp_path)
    for name, path in made[1].files.items():
        assert path.read_bytes() == again.files[name].read_bytes()


def change_one_value(tensors: dict[str, Any]) -> None:
    for name in ("transformer.h.1.mlp.c_proj.weight", "transformer.h.1.mlp.c_proj.weight.integers"):
        if name in tensors:
            tensors[name][5, 3] += 1


def change_a_bias(tensors: dict[str, Any]) -> None:
    tensors["transformer.h.0.attn.c_attn.bias"][40] += 1e-3


def swap_norms(tensors: dict[str, Any]) -> None:
    one, other = (tensors[f"transformer.h.0.ln_{i}.weight"] for i in (1, 2))
    one[:], other[:] = other.copy(), one.copy()


@pytest.mark.parametrize(
    ("name", "change"),
    [(ONNX_FP32, change_one_value), (ONNX_INT8, change_one_value), (ONNX_FP32, change_a_bias), (ONNX_INT8, swap_norms)],
)
def test_a_wrong_tensor_is_refused(
    made: tuple[ModelFolder, Exported], tmp_path: Path, name: str, change: Callable[[dict[str, Any]], None]
) -> None:
    model = onnx.load(made[1].files[name])
    tensors = {one.name: numpy_helper.to_array(one).copy() for one in model.graph.initializer}
    change(tensors)
    for one in model.graph.initializer:
        one.CopyFrom(numpy_helper.from_array(tensors[one.name], one.name))
    with pytest.raises(CheckpointError, match=r"has other values in transformer\.h\.\d\.\S+ than .* Nothing was published"):
        ONNX.check(made[0], saved(model, name, tmp_path))


def other_scale(model: Any) -> None:
    next(one for one in model.graph.node if one.op_type == "Mul").input[1] = "constant_float32_0"


def other_activation(model: Any) -> None:
    gelu = next(one for one in model.graph.node if one.op_type == "Gelu")
    gelu.attribute[0].s = b"tanh"


def cache_of_another_layer(model: Any) -> None:
    for one in model.graph.node:
        if one.op_type == "Concat" and one.input[0] == "past_key_values.1.key":
            one.input[0] = "past_key_values.0.key"


def other_zero(model: Any) -> None:
    zero = next(one for one in model.graph.initializer if one.name == "constant_uint8_128")
    zero.CopyFrom(numpy_helper.from_array(np.array(120, np.uint8), zero.name))


@pytest.mark.parametrize(
    ("name", "change"),
    [(ONNX_FP32, other_scale), (ONNX_FP32, other_activation), (ONNX_FP32, cache_of_another_layer), (ONNX_INT8, other_zero)],
)
def test_another_graph_is_refused(
    made: tuple[ModelFolder, Exported], tmp_path: Path, name: str, change: Callable[[Any], None]
) -> None:
    model = onnx.load(made[1].files[name])
    change(model)
    with pytest.raises(CheckpointError, match=r"has different logits in onnxruntime .* Nothing was published"):
        ONNX.check(made[0], saved(model, name, tmp_path))


def test_a_damaged_file_is_refused(made: tuple[ModelFolder, Exported], tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(made[1].files[ONNX_FP32].read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match=r"ONNX Runtime can't run .*model\.onnx: exit code 1\. Nothing was published"):
        ONNX.check(made[0], Exported(tmp_path, "", files={ONNX_FP32: file}))


def saved(model: Any, name: str, folder: Path) -> Exported:
    file = folder / "model.onnx"
    onnx.save(model, file)
    return Exported(folder, "", files={name: file})


def test_nanecho_is_refused_by_name(tmp_path: Path) -> None:
    folder = import_checkpoint(
        save(nanecho_checkpoint("cache", state_dict()), tmp_path / "a.pt"), tmp_path / "out", None, print
    )
    with pytest.raises(CheckpointError, match=r"its architecture is NanEcho, which transformers\.js does not have"):
        ONNX.export(folder, tmp_path)
    assert not (tmp_path / "onnx").exists()


def test_the_program_in_the_documentation_generates(
    made: tuple[ModelFolder, Exported], capsys: pytest.CaptureFixture[str]
) -> None:
    [program] = re.findall(r"```python\n(.*?)```", (ROOT / "docs/exports.md").read_text(encoding="utf-8"), re.DOTALL)
    folder, file = made[0].path, str(made[1].files[ONNX_FP32])
    for named, here in (('"you/your-model"', repr(str(folder))), ('hf_hub_download(repo, "onnx/model.onnx")', repr(file))):
        assert named in program
        program = program.replace(named, here)
    exec(program, {})  # noqa: S102 (our documentation)
    tokenizer = load_tokenizer(folder)
    ids = torch.from_numpy(tokenizer.encode_batch(["The"])[0].astype(np.int64)[None])
    model = load_model(made[0]).eval()
    for _ in range(50):
        ids = torch.cat([ids, model.logits(ids)[:, -1].argmax(-1, keepdim=True)], 1)
    assert capsys.readouterr().out == tokenizer.decode(ids[0].tolist()) + "\n"
