"""Models with pickled weights by the command line: a complete one becomes a model folder, another gets a diagnosis."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from echoself_action.corpus.make_tokenizer import make_tokenizer
from echoself_action.hub.client import open_hub

from ..conftest import SMALL, Cli, contents
from .foreign_files import gpt2_weights, save
from .hostile_pickles import PICKLES

PULL = "pull --hub hub --repo-id me/old"
LINEAR = gpt2_weights(linear=True)


def upload(folder: Path, repo_id: str = "me/old") -> str:
    """Upload a folder to the local Hub; returns the commit."""
    with open_hub("hub", None) as hub:
        hub.api.create_repo(repo_id, exist_ok=True)
        return str(hub.api.upload_folder(repo_id=repo_id, folder_path=folder).oid)


def stock_repo(folder: Path, vocab_size: int = 257) -> GPT2LMHeadModel:
    """What an older transformers saved: config.json, pytorch_model.bin and a tokenizer."""
    torch.manual_seed(0)
    sizes = {"n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 4}
    model: Any = GPT2LMHeadModel(GPT2Config(vocab_size=vocab_size, **sizes))
    folder.mkdir()
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    make_tokenizer("bytes", lambda: iter(())).save(folder)
    whole: GPT2LMHeadModel = model.eval()
    return whole


def test_a_model_without_most_of_its_tensors_is_diagnosed_with_its_source(
    echoself: Cli, workspace: Path, shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    upload(shared / "fixtures/echoself_hub/one_tensor")
    echoself(PULL, code=3)
    output = capsys.readouterr().err
    for fact in (
        "pytorch_model.bin contains 1 of the 52 tensors that its config.json describes (lm_head.weight)",
        "would initialize the other 51 randomly",
        "AutoTokenizer loads with 0 tokens",
        "sets bos_token_id and eos_token_id to 0",
        "Only the token embedding can be recovered from it",
        "checkpoint 'ckpt_20261124_035214_40_dca8f64e_44a379d7'",
    ):
        assert fact in output
    assert not contents(Path("echoself-model"))


def test_an_untransposed_model_is_recovered_by_the_command_in_the_message(
    echoself: Cli, workspace: Path, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(shared / "fixtures/echoself_hub/untransposed", broken, copy_function=shutil.copy)
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").chmod(0o644)
    (broken / "config.json").write_text(json.dumps(config | {"n_head": 8}))
    upload(broken)
    echoself(PULL, code=3)
    output = capsys.readouterr().err
    for fact in (
        "are stored as in nn.Linear",
        "(attn.c_proj) silently wrong",
        "does not set the exact GELU",
        "its config.json has n_head=8, but its training_metadata.json has n_head=4",
        "AutoTokenizer loads with 0 tokens",
        "sets bos_token_id and eos_token_id to 0",
        "All weights are present",
    ):
        assert fact in output
    assert not contents(Path("echoself-model"))

    [command] = re.findall(r"`(.*)`", output)
    fetching, saving = command.split(" && ")
    with open_hub("hub", None) as hub:
        program = [str(Path(sys.executable).with_name("hf")), *fetching.split()[1:]]
        subprocess.run(program, check=True, env=os.environ | {"HF_ENDPOINT": hub.endpoint}, capture_output=True)
    saved = saving.removeprefix("echoself ").replace("YOU/YOUR-MODEL", "me/new --hub hub")
    assert echoself(saved)["deployed"] == "true"
    assert "n_head=4 is from training_metadata.json beside it, not n_head=8" in capsys.readouterr().out
    with open_hub("hub", None) as hub:
        stock: Any = AutoModelForCausalLM.from_pretrained(hub.api.snapshot_download("me/new"))
    fixture = shared / "fixtures/nanogpt/bias_true"
    ids, expected = (torch.from_numpy(np.load(fixture / name)) for name in ("input_ids.npy", "logits_original.npy"))
    with torch.no_grad():
        torch.testing.assert_close(stock.eval()(ids).logits, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["one_tensor", "untransposed"])
def test_a_local_folder_gets_the_same_diagnosis(
    echoself: Cli, workspace: Path, shared: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    folder = shared / "fixtures/echoself_hub" / name
    echoself(f"deploy --hub hub --repo-id me/new --checkpoint {folder}", code=3)
    output = capsys.readouterr().err
    assert f"{folder} can't be used as a model" in output
    assert ("echoself deploy --checkpoint" in output) == (name == "untransposed")


def test_training_does_not_replace_a_published_incomplete_model(
    echoself: Cli, workspace: Path, shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    upload(shared / "fixtures/echoself_hub/one_tensor")
    cycle = f"cycle --hub hub --repo-id me/old --tokenizer bytes {SMALL}"
    echoself(cycle, code=3)
    assert "resume: never" in capsys.readouterr().err
    assert echoself(cycle, "--resume never --confirm-fresh-start")["deployed"] == "true"


def test_a_complete_stock_model_is_pulled_as_a_model_folder_and_trained(echoself: Cli, workspace: Path, tmp_path: Path) -> None:
    model = stock_repo(tmp_path / "stock")
    commit = upload(tmp_path / "stock")
    pulled = echoself(PULL)
    assert (pulled["commit_sha"], pulled["model_dir"]) == (commit, "echoself-model/checkpoint-0")
    assert contents(Path("echoself-model")) == ["checkpoint-0"]
    stored = load_file("echoself-model/checkpoint-0/model.safetensors")
    assert all(torch.equal(stored[name], tensor) for name, tensor in model.state_dict().items() if name in stored)
    assert len(stored) == 28
    assert AutoTokenizer.from_pretrained("echoself-model/checkpoint-0")("text")["input_ids"] == list(b"text")
    facts = json.loads(Path("echoself-model/checkpoint-0/training_metadata.json").read_text())
    assert facts["parity"]["tensors"] == 28
    assert facts["imported_from"]["file"] == f"me/old at {commit}"
    assert echoself(f"train {SMALL} --checkpoint echoself-model/checkpoint-0".replace("--n-head 2", ""))["stopped_by"]
    assert echoself("deploy --hub hub --repo-id me/new")["deployed"] == "true"


def test_a_cycle_resumes_from_a_complete_stock_model(echoself: Cli, workspace: Path, tmp_path: Path) -> None:
    stock_repo(tmp_path / "stock")
    upload(tmp_path / "stock")
    cycled = echoself("cycle --hub hub --repo-id me/old --max-iters 10 --batch-size 4 --device cpu --n-layer 2")
    assert (cycled["deployed"], cycled["step"]) == ("true", "10")
    assert echoself(PULL, "--output-dir again")["step"] == "10"


def test_a_complete_model_without_a_tokenizer_needs_the_input_tokenizer(
    echoself: Cli, workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stock_repo(tmp_path / "stock")
    (tmp_path / "stock/tokenizer.json").unlink()
    upload(tmp_path / "stock")
    echoself(PULL, code=3)
    output = capsys.readouterr().err
    assert "it has no vocabulary (no tokenizer.json): AutoTokenizer loads with 0 tokens" in output
    assert "The weights are complete" in output
    deploy = f"deploy --hub hub --repo-id me/new --checkpoint {tmp_path / 'stock'}"
    echoself(deploy, code=3)
    assert echoself(deploy, "--tokenizer bytes")["deployed"] == "true"


def test_an_empty_tokenizer_is_reported(
    echoself: Cli, workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stock_repo(tmp_path / "stock")
    tokenizer = json.loads((tmp_path / "stock/tokenizer.json").read_text())
    tokenizer["model"] |= {"vocab": {}, "merges": []}
    (tmp_path / "stock/tokenizer.json").write_text(json.dumps(tokenizer | {"added_tokens": []}))
    config = json.loads((tmp_path / "stock/tokenizer_config.json").read_text()) | {"eos_token": None, "bos_token": None}
    (tmp_path / "stock/tokenizer_config.json").write_text(json.dumps(config))
    upload(tmp_path / "stock")
    echoself(PULL, code=3)
    assert "has 0 tokens" in capsys.readouterr().err


def test_weights_that_contradict_their_config_are_refused(
    echoself: Cli, workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stock_repo(tmp_path / "stock", vocab_size=300)
    config = json.loads((tmp_path / "stock/config.json").read_text()) | {"vocab_size": 299}
    (tmp_path / "stock/config.json").write_text(json.dumps(config))
    upload(tmp_path / "stock")
    echoself(PULL, code=3)
    assert (
        "contradicts config.json: transformer.wte.weight has the shape (300, 16), expected (299, 16)" in capsys.readouterr().err
    )


def test_a_malicious_pickle_is_refused_without_running_code(
    echoself: Cli, workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stock_repo(tmp_path / "stock")
    with zipfile.ZipFile(tmp_path / "stock/pytorch_model.bin", "w") as archive:
        archive.writestr("pytorch_model/data.pkl", PICKLES["os.system"])
    upload(tmp_path / "stock")
    before = set(workspace.rglob("*"))
    echoself(PULL, code=3)
    assert "uses os.system" in capsys.readouterr().err
    assert not [path for path in set(workspace.rglob("*")) - before if "canary" in path.name]


@pytest.mark.parametrize("mode", ["deploy --hub hub --repo-id me/new", "pull"])
def test_n_head_can_be_given_for_files_that_do_not_record_it(
    echoself: Cli, workspace: Path, capsys: pytest.CaptureFixture[str], mode: str
) -> None:
    save(LINEAR, workspace / "model.pt")
    echoself(f"{mode} --checkpoint model.pt", code=3)
    assert "Give n_head" in capsys.readouterr().err
    taken = echoself(f"{mode} --checkpoint model.pt --n-head 4")
    assert json.loads((Path(taken["model_dir"]) / "config.json").read_text())["n_head"] == 4
