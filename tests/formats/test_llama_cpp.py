"""GGUF files in llama.cpp itself: they compute what their model does, and a file with one wrong tensor is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest

from echoself_action.checkpoint.model_folder import ModelFolder
from echoself_action.errors import CheckpointError
from echoself_action.formats.registry import Exported
from echoself_action.formats.runtimes.llama_cpp import BOUNDS
from echoself_action.formats.runtimes.runtime_formats import GGUF
from echoself_action.formats.runtimes.runtime_worker import run_worker

from .random_models import write_random_model

F32, F16, Q8_0 = BOUNDS


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelFolder, Exported]:
    """A model and its GGUF files, which nobody may change."""
    folder = write_random_model(tmp_path_factory.mktemp("made") / "model")
    return folder, GGUF.export(folder, folder.path.parent)


@pytest.mark.parametrize(
    ("tokenizer", "options"),
    [("bytes", {}), ("bpe:300", {"activation": "gelu_new", "bias": False}), ("bytes", {"n_embd": 48, "n_layer": 1})],
)
def test_llama_cpp_computes_the_model(tmp_path: Path, tokenizer: str, options: dict[str, object]) -> None:
    folder = write_random_model(tmp_path / "model", tokenizer, **options)
    found = GGUF.check(folder, GGUF.export(folder, tmp_path))
    assert [one.file for one in found] == [F32, F16, Q8_0]
    for one in found:
        assert one.runtime.startswith("xllamacpp 2026.10.11549")
        assert (one.positions, one.texts) == (128, 1000)
        assert one.max_abs_diff <= 0.2
        assert one.argmax_agreement >= 0.9
    assert "in fp32, the logits differ by" in found[0].notes[0]
    assert ("trained with the exact GELU" in found[0].notes[0]) == (folder.config.activation == "gelu")  # type: ignore[union-attr]
    assert found[0].size > found[1].size > found[2].size


def changed(made: tuple[ModelFolder, Exported], name: str, folder: Path, change: Callable[[dict[str, Any]], None]) -> Exported:
    """The export with this file as `change` leaves it, which gets the values of each tensor."""
    copy = folder / name
    copy.write_bytes(made[1].files[name].read_bytes())
    change({tensor.name: tensor.data for tensor in gguf.GGUFReader(copy, "r+").tensors})  # mapped: writes to the file
    return Exported(folder, "", files={name: copy})


def swap(tensors: dict[str, Any]) -> None:
    one, other = tensors["blk.0.ffn_up.bias"], tensors["blk.1.ffn_up.bias"]
    one[:], other[:] = other.copy(), one.copy()


def transpose(tensors: dict[str, Any]) -> None:
    matrix = tensors["blk.1.attn_output.weight"]
    matrix[:] = matrix.T.copy()


def change_one_value(tensors: dict[str, Any]) -> None:
    matrix = tensors["blk.0.ffn_down.weight"]
    matrix[3, 5] *= 1.01


@pytest.mark.parametrize("name", [F32, F16, Q8_0])
def test_two_swapped_tensors_are_refused(made: tuple[ModelFolder, Exported], tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match=rf"{name} has other .* Nothing was published"):
        GGUF.check(made[0], changed(made, name, tmp_path, swap))


def test_a_transposed_matrix_is_refused_by_its_logits(made: tuple[ModelFolder, Exported], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=rf"{F32} has other logits in llama.cpp than its model: max \|delta\| "):
        GGUF.check(made[0], changed(made, F32, tmp_path, transpose))


@pytest.mark.parametrize("name", [F32, F16, Q8_0])
def test_a_wrong_number_of_heads_is_refused_by_the_logits(
    made: tuple[ModelFolder, Exported], tmp_path: Path, name: str
) -> None:
    file = tmp_path / name
    file.write_bytes(made[1].files[name].read_bytes().replace(*heads(2, 1)))
    with pytest.raises(CheckpointError, match=rf"{name} has (other|different) logits in .*llama.cpp.* than "):
        GGUF.check(made[0], Exported(tmp_path, "", files={name: file}))


@pytest.mark.parametrize("name", [F32, F16])
def test_one_value_that_is_one_percent_larger_is_refused(made: tuple[ModelFolder, Exported], tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match=r"other (logits|values in blk.0.ffn_down.weight)"):
        GGUF.check(made[0], changed(made, name, tmp_path, change_one_value))


def test_other_text_of_tokens_is_refused(tmp_path: Path) -> None:
    folder = write_random_model(tmp_path / "model", n_layer=1)
    exported = GGUF.export(folder, tmp_path)
    file = exported.files[Q8_0]
    file.write_bytes(
        file.read_bytes().replace(b"\x01\0\0\0\0\0\0\0A\x01\0\0\0\0\0\0\0B", b"\x01\0\0\0\0\0\0\0B\x01\0\0\0\0\0\0\0A")
    )
    with pytest.raises(CheckpointError, match=rf"{Q8_0} has other token ids than .* texts, such as "):
        GGUF.check(folder, Exported(tmp_path, "", files={Q8_0: file}))


def test_a_truncated_file_is_refused_with_the_log(made: tuple[ModelFolder, Exported], tmp_path: Path) -> None:
    file = tmp_path / F16
    file.write_bytes(made[1].files[F16].read_bytes()[:-1000])
    with pytest.raises(
        CheckpointError, match=rf"(?s)llama.cpp can't run .*{F16}: exit code 1\. Nothing .* not within the file"
    ):
        GGUF.check(made[0], Exported(tmp_path, "", files={F16: file}))


def test_an_abort_of_llama_cpp_is_an_error_about_the_file(made: tuple[ModelFolder, Exported], tmp_path: Path) -> None:
    file = tmp_path / F32
    file.write_bytes(made[1].files[F32].read_bytes().replace(*heads(2, 32)))
    with pytest.raises(
        CheckpointError, match=rf"(?s)llama.cpp can't run .*{F32}: SIGABRT\. Nothing was published.*GGML_ASSERT"
    ):
        GGUF.check(made[0], Exported(tmp_path, "", files={F32: file}))


def heads(before: int, after: int) -> tuple[bytes, bytes]:
    """The number of heads, as it is in the file and as it is instead."""
    key = b"gpt2.attention.head_count" + (4).to_bytes(4, "little")
    return key + before.to_bytes(4, "little"), key + after.to_bytes(4, "little")


def test_a_runtime_that_takes_too_long_is_stopped(made: tuple[ModelFolder, Exported], tmp_path: Path) -> None:
    file = made[1].files[F32]
    with pytest.raises(CheckpointError, match=rf"llama.cpp can't run .*{F32}: no answer in 0 s. Nothing was published"):
        run_worker("llama_cpp_worker", [str(file), str(tmp_path)], file, "llama.cpp", "gguf", seconds=0.05)
