import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from echoself_action.checkpoint.model_folder import ModelFolder, read_model_folder, record
from echoself_action.checkpoint.weights import load_model
from echoself_action.errors import CheckpointError
from echoself_action.evaluation.parity import check_parity


def test_stock_transformers_computes_the_same_logits_from_a_model_folder(model_folder: ModelFolder) -> None:
    parity = check_parity(model_folder)
    assert parity.max_abs_diff < 1e-5
    assert parity.argmax_agreement == 1
    assert parity.positions == 4 * 32
    assert parity.tensors == 28 == len(load_file(model_folder.path / "model.safetensors"))


def test_parity_is_recorded_only_once(model_folder: ModelFolder) -> None:
    parity = check_parity(model_folder)
    recorded = record(model_folder, parity=parity)
    assert recorded == read_model_folder(model_folder.path)
    assert recorded.metadata
    assert recorded.metadata.parity == parity
    before = (model_folder.path / "training_metadata.json").stat().st_ino
    assert record(recorded, parity=parity.model_copy(update={"max_abs_diff": 1e-9})) == recorded
    assert (model_folder.path / "training_metadata.json").stat().st_ino == before


def test_parity_is_not_recorded_in_a_folder_without_our_metadata(model_folder: ModelFolder) -> None:
    (model_folder.path / "training_metadata.json").write_text("{}")
    shutil.rmtree(model_folder.path / "training_state")
    assert record(read_model_folder(model_folder.path), parity=check_parity(model_folder)).metadata is None
    assert (model_folder.path / "training_metadata.json").read_text() == "{}"


def test_weights_that_differ_from_the_trained_model_are_refused(model_folder: ModelFolder) -> None:
    trained = load_model(model_folder)
    weights = load_file(model_folder.path / "model.safetensors")
    weights["transformer.h.0.mlp.c_fc.weight"] *= 3
    save_file(weights, model_folder.path / "model.safetensors")
    with pytest.raises(CheckpointError, match="has different logits"):
        check_parity(model_folder, trained)


def test_nan_weights_are_refused(model_folder: ModelFolder) -> None:
    weights = load_file(model_folder.path / "model.safetensors")
    weights["transformer.ln_f.weight"] *= float("nan")
    save_file(weights, model_folder.path / "model.safetensors")
    with pytest.raises(CheckpointError, match="has different logits"):
        check_parity(model_folder)


def test_a_missing_tensor_which_transformers_would_initialise_randomly_is_refused(model_folder: ModelFolder) -> None:
    weights = load_file(model_folder.path / "model.safetensors")
    del weights["transformer.h.0.ln_1.bias"]
    trained = load_model(model_folder)
    save_file(weights, model_folder.path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"can't load .* completely: .*ln_1\.bias"):
        check_parity(model_folder, trained)


def test_an_error_of_transformers_for_an_unsupported_config_is_reported(model_folder: ModelFolder) -> None:
    config = json.loads((model_folder.path / "config.json").read_text()) | {"quantization_config": {"quant_method": "awq"}}
    (model_folder.path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"transformers can't load .* completely: \w+Error: "):
        check_parity(read_model_folder(model_folder.path))
