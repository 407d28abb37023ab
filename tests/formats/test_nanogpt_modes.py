"""nanoGPT checkpoints by the command line: publishing, training, the model card, and what is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from echoself_action.checkpoint.metadata import leaks_text, read_metadata
from echoself_action.hub.client import open_hub

from ..conftest import Cli
from .foreign_files import nanogpt_checkpoint, save

ROUND = "--hub hub --repo-id me/model"


def test_an_imported_checkpoint_is_published_once(echoself: Cli, workspace: Path) -> None:
    save(nanogpt_checkpoint(), workspace / "ckpt.pt")
    deployed = echoself(f"deploy {ROUND} --checkpoint *.pt")
    assert (deployed["deployed"], deployed["step"], deployed["model_dir"]) == ("true", "7", "echoself-model/checkpoint-7")
    assert echoself(f"deploy {ROUND} --checkpoint ckpt.pt")["deployed"] == "false"


def test_the_model_card_names_the_imported_file(echoself: Cli, workspace: Path, shared: Path) -> None:
    echoself(f"deploy {ROUND} --checkpoint {shared}/fixtures/nanogpt/bias_true/ckpt.pt")
    with open_hub("hub", None) as hub:
        card = Path(hub.api.hf_hub_download("me/model", "README.md")).read_text()
    assert "| Imported from | ckpt.pt (nanoGPT) |" in card
    assert "max absolute logit difference 0.0e+00" in card


def test_training_resumes_from_an_imported_checkpoint(
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
    log = capsys.readouterr()
    assert "start: echoself-model/checkpoint-40, step 40" in log.out
    (decayed,) = Path("echoself-model").glob("**/checkpoint-45-decayed")
    assert (decayed / "model.safetensors").is_file()
    # both files have the same ids
    repeated = "all 5,000 held-out tokens are in the training tokens too: the validation loss measures memory"
    facts = read_metadata(decayed)
    assert facts
    assert facts.data
    assert (facts.data.compared_tokens, facts.data.repeated_tokens, leaks_text(facts.data)) == (5000, 5000, repeated)
    assert f"warning: {repeated}" in log.out
    assert "not compressed with PPMd: token files have no text" in log.out
    (page,) = Path("echoself-model").glob("**/report.html")
    assert repeated in page.read_text()


def test_text_for_a_model_with_an_unknown_vocabulary_is_refused(
    echoself: Cli, workspace: Path, shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    echoself(f"train --checkpoint {shared}/fixtures/nanogpt/bias_true/ckpt.pt --data docs/*.md", code=2)
    assert "The vocabulary of this model is unknown" in capsys.readouterr().err


def test_a_checkpoint_of_an_unknown_model_is_refused_with_its_tensors(
    echoself: Cli, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"step": 3, "loss": 1.5, "model_state_dict": {"encoder.weight": torch.ones(2)}}, "model.pt")
    echoself(f"deploy {ROUND} --checkpoint model.pt", code=3)
    output = capsys.readouterr().err
    assert "its tensors are not those of a recognised model: 'encoder.weight'" in output
    assert "older export" in output  # the layouts that are known
    assert not (workspace / "echoself-model").exists()


def test_a_checkpoint_pattern_must_match_one_path(echoself: Cli, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.pt", "b.pt"):
        (workspace / name).touch()
    echoself(f"deploy {ROUND} --checkpoint *.pt", code=3)
    assert "*.pt matches 2 paths: a.pt, b.pt. None was used." in capsys.readouterr().err
