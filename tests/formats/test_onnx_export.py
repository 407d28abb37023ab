"""An exported ONNX model computes what its folder does, in ONNX Runtime, and its bytes depend on the model alone."""

from pathlib import Path

import onnx
import pytest

from echoself_action.errors import CheckpointError
from echoself_action.formats.onnx_export import FP32, INT8
from echoself_action.formats.registry import ONNX

from .random_models import write_random_model


@pytest.mark.parametrize(
    "options",
    [{}, {"activation": "gelu_new"}, {"bias": False, "layer_norm_epsilon": 1e-3, "n_layer": 1}],
    ids=["exact GELU", "tanh GELU", "no biases"],
)
def test_onnxruntime_computes_the_model(tmp_path: Path, options: dict[str, object]) -> None:
    folder = write_random_model(tmp_path / "model", **options)
    exported = ONNX.export(folder, tmp_path)
    assert exported.files == {FP32: tmp_path / FP32, INT8: tmp_path / INT8}
    for path in exported.files.values():
        onnx.checker.check_model(path, full_check=True)
    whole, quantized = ONNX.check(folder, exported)
    assert (whole.file, quantized.file) == (FP32, INT8)
    assert whole.max_abs_diff <= 1e-4
    assert whole.argmax_agreement == 1
    assert quantized.max_abs_diff > 1e-4
    assert (whole.positions, whole.texts) == (128, 1000)


def test_the_token_embedding_is_stored_once(tmp_path: Path) -> None:
    folder = write_random_model(tmp_path / "model", "bpe:2048", n_layer=1)
    exported = ONNX.export(folder, tmp_path)
    weights = (folder.path / "model.safetensors").stat().st_size
    assert exported.files[FP32].stat().st_size < 1.1 * weights
    assert exported.files[INT8].stat().st_size < 0.4 * weights


def test_an_unchanged_model_has_the_same_bytes(tmp_path: Path) -> None:
    folder = write_random_model(tmp_path / "model")
    first, second = (ONNX.export(folder, tmp_path / name) for name in ("first", "second"))
    for name, path in first.files.items():
        assert path.read_bytes() == second.files[name].read_bytes()


@pytest.mark.parametrize("name", [FP32, INT8])
def test_other_weights_are_refused(tmp_path: Path, name: str) -> None:
    exported = ONNX.export(write_random_model(tmp_path / "other", seed=2), tmp_path)
    folder = write_random_model(tmp_path / "model")
    with pytest.raises(CheckpointError, match=r"has different logits in onnxruntime .* Nothing was published"):
        ONNX.check(folder, exported)
