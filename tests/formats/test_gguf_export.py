"""GGUF files, read back with the `gguf` package: every tensor is the folder's, and the same model gives the same bytes."""

import json
import re
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from echoself_action.checkpoint.model_folder import WEIGHTS_FILE, ModelFolder, read_model_folder
from echoself_action.checkpoint.weights import write_model
from echoself_action.corpus.make_tokenizer import make_tokenizer
from echoself_action.errors import CheckpointError
from echoself_action.formats.registry import Exported
from echoself_action.formats.runtimes.gguf_export import TYPES, tensor_names
from echoself_action.formats.runtimes.runtime_formats import GGUF
from echoself_action.model.nanecho import NanEchoConfig, NanEchoForCausalLM

from .random_models import write_random_model

MATRICES = re.compile(r"(token_embd|blk\..*(attn_qkv|attn_output|ffn_up|ffn_down))\.weight")


def tensors(exported: Exported, kind: str) -> dict[str, gguf.ReaderTensor]:
    return {tensor.name: tensor for tensor in gguf.GGUFReader(exported.files[f"model-{kind}.gguf"]).tensors}


def weights(folder: ModelFolder) -> dict[str, Any]:
    """Of the folder's file, in llama.cpp's names and orientation."""
    stored = load_file(folder.path / WEIGHTS_FILE)
    found = {}
    for name, source in tensor_names(folder.config):
        if source:
            found[name] = stored[source].T if ".h." in source and stored[source].ndim > 1 else stored[source]
    return found


@pytest.mark.parametrize("options", [{}, {"bias": False, "layer_norm_epsilon": 1e-3, "n_embd": 64}])
def test_each_file_has_the_tensors_of_the_folder(tmp_path: Path, options: dict[str, Any]) -> None:
    """F32 exactly, the matrices of the others as the `gguf` package converts them, norms and biases always exactly."""
    folder = write_random_model(tmp_path / "model", n_layer=1, **options)
    exported = GGUF.export(folder, tmp_path)
    expected = weights(folder)
    assert len(expected) == len(load_file(folder.path / WEIGHTS_FILE)) - (0 if folder.config.bias else 7)
    for kind in TYPES:
        stored = tensors(exported, kind)
        zeros = stored.keys() - expected.keys()
        assert len(zeros) == (0 if folder.config.bias else 7)
        assert all(name.endswith(".bias") and not stored[name].data.any() for name in zeros)
        for name, values in expected.items():
            dtype = gguf.GGMLQuantizationType[kind if MATRICES.fullmatch(name) else "F32"]
            assert stored[name].tensor_type == dtype
            np.testing.assert_array_equal(stored[name].data, gguf.quants.quantize(np.ascontiguousarray(values), dtype))
    keys = {name: field.contents() for name, field in gguf.GGUFReader(exported.files["model-F16.gguf"]).fields.items()}
    config = folder.config
    assert {name: value for name, value in keys.items() if name.startswith("gpt2.")} == {
        "gpt2.context_length": config.block_size,
        "gpt2.embedding_length": config.n_embd,
        "gpt2.feed_forward_length": 4 * config.n_embd,
        "gpt2.block_count": 1,
        "gpt2.attention.head_count": 2,
        "gpt2.attention.layer_norm_epsilon": np.float32(config.layer_norm_epsilon),
    }
    assert (keys["general.architecture"], keys["general.type"], keys["general.file_type"]) == ("gpt2", "model", 1)


def test_rows_that_q8_0_can_not_hold_are_f16(tmp_path: Path) -> None:
    """As in llama.cpp's quantize: a block has 32 values of a row. The rows of ffn_down are the only ones with a multiple."""
    exported = GGUF.export(write_random_model(tmp_path / "model", n_layer=1, n_embd=24), tmp_path)
    kinds = {name: tensor.tensor_type.name for name, tensor in tensors(exported, "Q8_0").items() if MATRICES.fullmatch(name)}
    assert kinds.pop("blk.0.ffn_down.weight") == "Q8_0"
    assert set(kinds.values()) == {"F16"}
    assert exported.notes == (
        "4 tensors of model-Q8_0.gguf are F16, because their rows are no multiple of 32 values: token_embd.weight, "
        "blk.0.attn_qkv.weight, blk.0.attn_output.weight, blk.0.ffn_up.weight",
    )


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    folder = write_random_model(tmp_path / "model", "bpe:270", n_layer=1)
    first, second, again = (GGUF.export(folder, tmp_path / name).files for name in ("one", "two", "one"))
    assert again == first
    assert {name: file.read_bytes() for name, file in first.items()} == {
        name: file.read_bytes() for name, file in second.items()
    }
    assert sorted(path.name for path in (tmp_path / "one" / "gguf").iterdir()) == sorted(first)


def test_ollama_gets_the_context_and_the_prompt_as_it_is(tmp_path: Path) -> None:
    exported = GGUF.export(write_random_model(tmp_path / "model", n_layer=1, block_size=48), tmp_path)
    assert exported.files["Modelfile"].read_text() == (
        'FROM ./model-Q8_0.gguf\nTEMPLATE "{{ .Prompt }}"\nPARAMETER num_ctx 48\nPARAMETER num_predict 24\n'
        'PARAMETER temperature 0.8\nPARAMETER stop "<|endoftext|>"\n'
    )
    assert exported.files["template"].read_bytes() == b"{{ .Prompt }}"
    assert json.loads(exported.files["params"].read_bytes()) == {
        "num_ctx": 48,
        "num_predict": 24,
        "temperature": 0.8,
        "stop": ["<|endoftext|>"],
    }
    assert exported.command == f"llama-server -m {tmp_path / 'gguf' / 'model-Q8_0.gguf'} -c 48"


def test_nanecho_is_refused(tmp_path: Path) -> None:
    tokenizer = make_tokenizer("bytes", lambda: iter(()))
    config = NanEchoConfig(vocab_size=257, block_size=16, n_layer=1, n_head=4, n_embd=16)
    (tmp_path / "model").mkdir()
    write_model(tmp_path / "model", config, NanEchoForCausalLM(config).state_dict(), tokenizer.end_of_text_id)
    tokenizer.save(tmp_path / "model")
    with pytest.raises(CheckpointError, match=r"its architecture is NanEcho, which llama.cpp does not have. No GGUF file"):
        GGUF.export(read_model_folder(tmp_path / "model"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("value", [70000.0, float("nan")])
def test_a_value_that_f16_can_not_hold_leaves_the_files_of_before(tmp_path: Path, value: float) -> None:
    folder = write_random_model(tmp_path / "model", n_layer=1)
    before = {name: file.read_bytes() for name, file in GGUF.export(folder, tmp_path).files.items()}
    stored = load_file(folder.path / WEIGHTS_FILE)
    stored["transformer.h.0.mlp.c_fc.weight"][3, 4] = value
    save_file(stored, folder.path / WEIGHTS_FILE, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"transformer.h.0.mlp.c_fc.weight has the value .*, and F16 ends at 65504"):
        GGUF.export(folder, tmp_path)
    assert {path.name: path.read_bytes() for path in (tmp_path / "gguf").iterdir()} == before
