"""A nanoGPT checkpoint through the front door: imported, published, loaded from the Hub, pulled, exported, trained on."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from echoself_action.hub.client import open_hub

from .conftest import Cli

FIXTURES = ("bias_true", "compiled_orig_mod")
ROUND = "--hub hub --repo-id me/model"


@pytest.mark.parametrize("name", FIXTURES)
def test_it_goes_to_the_hub_and_comes_back_byte_for_byte(echoself: Cli, workspace: Path, shared: Path, name: str) -> None:
    fixture = shared / "fixtures/nanogpt" / name
    shutil.copy(fixture / "ckpt.pt", workspace / "ckpt.pt")
    deployed = echoself(f"deploy {ROUND} --checkpoint *.pt")
    assert (deployed["deployed"], deployed["step"], deployed["model_dir"]) == ("true", "40", "echoself-model/checkpoint-40")
    assert echoself(f"deploy {ROUND} --checkpoint ckpt.pt")["deployed"] == "false"
    with open_hub("hub", None) as hub:
        published = hub.api.snapshot_download("me/model")
    stock: Any = AutoModelForCausalLM.from_pretrained(published)
    ids = torch.from_numpy(np.load(fixture / "input_ids.npy"))
    with torch.no_grad():
        difference = (stock.eval()(ids).logits - torch.from_numpy(np.load(fixture / "logits_original.npy"))).abs().max().item()
    assert difference <= 1e-5
    assert len(AutoTokenizer.from_pretrained(published)) == 256

    echoself(f"pull {ROUND} --output-dir pulled --formats nanogpt")
    before, after = (torch.load(path, weights_only=True) for path in ("ckpt.pt", "pulled/nanogpt/ckpt.pt"))
    plain = {key.removeprefix("_orig_mod."): tensor for key, tensor in before["model"].items()}
    assert after["model"].keys() == plain.keys()
    assert all(after["model"][key].numpy().tobytes() == tensor.numpy().tobytes() for key, tensor in plain.items())
    for i, state in before["optimizer"]["state"].items():
        assert all(torch.equal(after["optimizer"]["state"][i][key], tensor) for key, tensor in state.items())
    assert (after["iter_num"], after["model_args"]) == (before["iter_num"], before["model_args"])
    assert after["best_val_loss"] == before["best_val_loss"].item()


def test_the_card_says_where_the_model_comes_from(echoself: Cli, workspace: Path, shared: Path) -> None:
    echoself(f"deploy {ROUND} --checkpoint {shared}/fixtures/nanogpt/bias_true/ckpt.pt")
    with open_hub("hub", None) as hub:
        card = Path(hub.api.hf_hub_download("me/model", "README.md")).read_text()
    assert "| Imported from | a nanoGPT checkpoint; logits differ from its own by 0.0e+00 |" in card


def test_training_goes_on_from_it(
    echoself: Cli, workspace: Path, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "bins"
    data.mkdir()
    for name in ("train.bin", "val.bin"):
        np.random.default_rng(0).integers(0, 256, 5000).astype(np.uint16).tofile(data / name)
    source = shared / "fixtures/nanogpt/bias_true/ckpt.pt"
    bins = workspace / "bins"
    shutil.copytree(data, bins)
    trained = echoself(f"train --checkpoint {source} --data bins/*.bin --max-iters 5 --batch-size 4 --device cpu")
    assert trained["step"] in ("40", "45")
    assert "going on from echoself-model/checkpoint-40, step 40" in capsys.readouterr().out
    assert Path("echoself-model/checkpoint-45/model.safetensors").exists()


def test_text_for_a_model_whose_vocabulary_nobody_knows_is_refused(
    echoself: Cli, workspace: Path, shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    echoself(f"train --checkpoint {shared}/fixtures/nanogpt/bias_true/ckpt.pt --data docs/*.md", code=2)
    assert "Nobody knows this model's vocabulary" in capsys.readouterr().err


def test_a_checkpoint_of_no_known_model_is_refused_by_its_tensors(
    echoself: Cli, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"step": 3, "loss": 1.5, "model_state_dict": {"encoder.weight": torch.ones(2)}}, "model.pt")
    echoself(f"deploy {ROUND} --checkpoint model.pt", code=3)
    said = capsys.readouterr().err
    assert "its tensors are of no model that is known here: 'encoder.weight'" in said
    assert "older export" in said  # the layouts that are known
    assert not (workspace / "echoself-model").exists()


def test_a_glob_must_match_one(echoself: Cli, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.pt", "b.pt"):
        (workspace / name).touch()
    echoself(f"deploy {ROUND} --checkpoint *.pt", code=3)
    assert "*.pt matches 2: a.pt, b.pt. None was used." in capsys.readouterr().err
