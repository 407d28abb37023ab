import json

from echoself_action.checkpoint.metadata import METADATA_FILE, ppmd_text, read_metadata
from echoself_action.checkpoint.model_folder import ModelFolder


def test_metadata_round_trips(model_folder: ModelFolder) -> None:
    assert model_folder.metadata
    assert read_metadata(model_folder.path) == model_folder.metadata


def test_unknown_fields_of_a_later_version_are_ignored(model_folder: ModelFolder) -> None:
    path = model_folder.path / METADATA_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"later": 1}))
    assert read_metadata(model_folder.path) == model_folder.metadata


def test_metadata_of_another_program_is_none(model_folder: ModelFolder) -> None:
    path = model_folder.path / METADATA_FILE
    for text in ('{"iteration": 40, "format": "other"}', "[]", "{", ""):
        path.write_text(text)
        assert read_metadata(model_folder.path) is None
    path.unlink()
    assert read_metadata(model_folder.path) is None


def test_the_compressor_is_described_unless_the_metadata_is_older(model_folder: ModelFolder) -> None:
    facts = model_folder.metadata
    assert facts
    assert facts.data
    assert facts.data.ppmd_bits_per_byte
    assert f"needs {facts.data.ppmd_bits_per_byte:.4f} bits per byte for the held-out text" in ppmd_text(facts.data)
    path = model_folder.path / METADATA_FILE
    values = json.loads(path.read_text())
    del values["data"]["ppmd_bits_per_byte"]
    path.write_text(json.dumps(values))
    older = read_metadata(model_folder.path)
    assert older
    assert ppmd_text(older.data) == ppmd_text(None) == ""
