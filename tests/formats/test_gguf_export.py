"""GGUF files, read back with the `gguf` package: every tensor is the folder's, and the same model gives the same bytes."""

from pathlib import Path

import gguf
import numpy as np
import pytest

from echoself_action.checkpoint.arrays import as_array
from echoself_action.checkpoint.model_folder import ModelFolder, read_model_folder
from echoself_action.checkpoint.weights import load_model, new_model, write_model
from echoself_action.corpus.make_tokenizer import make_tokenizer
from echoself_action.formats.gguf_export import tensor_names
from echoself_action.formats.registry import GGUF
from echoself_action.model.config import GPT2Config

TEXT = "Wir waren zu spät. The cat sat on the mat, and the mat was the cat's.\n" * 4


def new_folder(path: Path, tokenizer_name: str = "bytes", **options: object) -> ModelFolder:
    """A model of one layer with random weights."""
    tokenizer = make_tokenizer(tokenizer_name, lambda: iter([TEXT]))
    config = GPT2Config(tokenizer.vocab_size, block_size=32, n_layer=1, n_head=2, n_embd=32, **options)
    model = new_model(config)
    model.initialise(0)
    path.mkdir()
    tokenizer.save(path, config.block_size)
    write_model(path, config, {name: as_array(t) for name, t in model.state_dict().items()}, tokenizer.end_of_text_id)
    return read_model_folder(path)


@pytest.mark.parametrize("bias", [True, False])
def test_f32_has_the_tensors_of_the_folder(tmp_path: Path, bias: bool) -> None:
    folder = new_folder(tmp_path / "model", bias=bias)
    assert isinstance(folder.config, GPT2Config)
    exported = GGUF.export(folder, tmp_path)
    stored = {tensor.name: tensor.data for tensor in gguf.GGUFReader(exported.files["model-F32.gguf"]).tensors}
    weights = {name: tensor.numpy() for name, tensor in load_model(folder).state_dict().items()}
    names = dict(tensor_names(folder.config))
    assert stored.keys() == names.keys()
    assert {source for source in names.values() if source} == weights.keys()
    for name, source in names.items():
        if source is None:
            assert not stored[name].any()
        else:
            is_matrix = weights[source].ndim == 2 and not source.endswith(("wte.weight", "wpe.weight"))
            np.testing.assert_array_equal(stored[name], weights[source].T if is_matrix else weights[source])


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    folder = new_folder(tmp_path / "model", "bpe:270")
    first, second = (GGUF.export(folder, tmp_path / name).files for name in ("one", "two"))
    assert {name: file.read_bytes() for name, file in first.items()} == {
        name: file.read_bytes() for name, file in second.items()
    }
