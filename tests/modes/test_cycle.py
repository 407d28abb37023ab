import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from echoself_action.checkpoint.metadata import read_metadata
from echoself_action.checkpoint.model_folder import read_model_folder
from echoself_action.checkpoint.select import latest
from echoself_action.checkpoint.weights import load_model
from echoself_action.config.load import ACTION_VARIABLE
from echoself_action.config.outputs import Outputs
from echoself_action.hub.client import open_hub

from ..conftest import SMALL, Cli
from ..formats.foreign_files import save
from ..formats.nanecho_files import nanecho_checkpoint, state_dict

CYCLE = f"cycle --hub hub --repo-id me/model --tokenizer bytes {SMALL}"


def test_a_second_cycle_resumes_exactly_from_the_hub_alone(echoself: Cli, workspace: Path) -> None:
    first = echoself(CYCLE, "--output-dir one")
    assert set(first) == set(Outputs.__dataclass_fields__)
    assert (first["deployed"], first["step"], first["stopped_by"]) == ("true", "20", "max_iters")
    second = echoself(CYCLE, "--output-dir two")
    assert (second["deployed"], second["step"]) == ("true", "36")
    assert float(second["val_loss"]) < float(first["val_loss"])
    assert second["commit_sha"] != first["commit_sha"]


def test_cycles_over_the_hub_equal_training_in_one_folder(echoself: Cli, workspace: Path) -> None:
    for name in ("one", "two"):
        through_hub = echoself(CYCLE, f"--output-dir {name}")
        in_place = echoself(f"train --tokenizer bytes {SMALL} --output-dir stays")
    weights = [load_file(Path(outputs["checkpoint"]) / "model.safetensors") for outputs in (through_hub, in_place)]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


def test_stock_transformers_computes_our_logits_from_the_hubs_files(begun: Cli, tmp_path: Path) -> None:
    outputs = begun(CYCLE)
    with open_hub("hub", None) as hub:
        folder = hub.api.snapshot_download("me/model", revision=outputs["commit_sha"], local_dir=tmp_path / "snapshot")
    stock: Any = AutoModelForCausalLM.from_pretrained(folder)
    ids = AutoTokenizer.from_pretrained(folder)("def main() -> None:", return_tensors="pt").input_ids
    ours = load_model(read_model_folder(Path(outputs["model_dir"]))).eval()
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), stock.eval()(ids).logits, atol=1e-5, rtol=0)


def test_a_grown_corpus_keeps_the_models_tokenizer(echoself: Cli, workspace: Path) -> None:
    bpe = CYCLE.replace("bytes", "bpe:300")
    echoself(bpe)
    (workspace / "docs/new.md").write_text("Something new to learn.\n" * 500)
    assert echoself(bpe)["step"] == "36"


def test_the_next_cycle_resumes_training_that_could_not_be_published(echoself: Cli, begun: Cli) -> None:
    begun(CYCLE)
    echoself(f"train {SMALL}")
    echoself(CYCLE)
    newest = latest(Path("echoself-model"))
    assert newest
    assert newest.step == 52


def test_the_loser_of_a_race_gets_an_error_and_keeps_its_checkpoint(
    echoself: Cli, begun: Cli, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody publishes while this cycle trains: it trains from a copy of the Hub that is put back in the meantime."""
    begun(CYCLE)
    from echoself_action.modes import cycle

    train = cycle.train_model

    def publish_in_the_meantime(*arguments: Any) -> Any:
        trained = train(*arguments)
        with open_hub("hub", None) as hub:
            hub.api.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id="me/model", revision="training-state")
        return trained

    monkeypatch.setattr(cycle, "train_model", publish_in_the_meantime)
    echoself(CYCLE, "--output-dir second", code=4)
    assert (workspace / "second/checkpoint-36-decayed").is_dir()
    with open_hub("hub", None) as hub:
        assert "Step 20" in hub.api.list_repo_commits("me/model")[0].title


def test_a_cycle_whose_model_the_gate_refuses_publishes_the_training_state_alone(echoself: Cli, workspace: Path) -> None:
    outputs = echoself(CYCLE, "--gate max_val_loss=0.5 --output-dir one")
    assert (outputs["step"], outputs["gate_result"], outputs["deployed"]) == ("20", "refused", "false")
    assert outputs["result"] == "advanced"
    assert Path(outputs["model_dir"]).is_dir()
    with open_hub("hub", None) as hub:
        assert not hub.api.file_exists("me/model", "model.safetensors")
    again = echoself(CYCLE, "--gate max_val_loss=0.5 --gate-fails-job true --output-dir two", code=5)
    assert (again["step"], again["result"]) == ("36", "advanced")


def test_a_fresh_start_must_be_confirmed_and_keeps_the_old_checkpoints(echoself: Cli, begun: Cli, workspace: Path) -> None:
    begun(CYCLE)
    echoself(CYCLE, "--resume never", code=2)
    again = echoself(CYCLE, "--resume never --confirm-fresh-start")
    assert again["step"] == "20"
    assert list(workspace.glob("echoself-model/superseded-*/checkpoint-20-decayed"))


def test_resume_must_fails_instead_of_starting_a_new_model(echoself: Cli, workspace: Path) -> None:
    echoself(CYCLE, "--resume must", code=2)
    assert not (workspace / "echoself-model").exists()


def test_without_training_state_on_the_hub_cycle_resumes_from_the_weights(echoself: Cli, begun: Cli) -> None:
    begun(f"{CYCLE} --upload-training-state false")
    shutil.rmtree("echoself-model")
    assert echoself(CYCLE, "--upload-training-state false")["step"] == "40"


def test_without_training_state_on_the_hub_cycle_resumes_from_the_local_stable_checkpoint(echoself: Cli, begun: Cli) -> None:
    begun(f"{CYCLE} --upload-training-state false")
    assert echoself(CYCLE, "--upload-training-state false")["checkpoint"] == "echoself-model/checkpoint-36-decayed"


def test_a_cycle_starts_from_a_found_nanecho_checkpoint_and_then_resumes_from_the_hub(
    echoself: Cli, workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wide = {"vocab_size": 257}
    save(nanecho_checkpoint("cache", state_dict(**wide), **wide), Path("nanecho/cache/checkpoints/ckpt_1.pt"))
    monkeypatch.setenv(ACTION_VARIABLE, json.dumps({"checkpoint": "auto", "tokenizer": "bytes"}))
    # five steps more may be a little worse: what is shown here is where they begin
    cycle = "cycle --preset ci --hub hub --repo-id me/echo --max-iters 5 --eval-interval 5 --batch-size 4 --device cpu"
    cycle += " --gate none --introspection false"
    first = echoself(cycle, "--output-dir one")
    assert (first["deployed"], first["checkpoint"]) == ("true", "one/checkpoint-45-decayed")
    assert "because it has the lowest recorded held-out loss, 2.5000" in capsys.readouterr().out
    second = echoself(cycle, "--output-dir two")
    assert second["checkpoint"] == "two/checkpoint-49-decayed"
    facts = read_metadata(Path(second["checkpoint"]))
    assert facts
    assert facts.architecture == "nanecho"


def test_a_cycle_resumes_from_a_given_checkpoint_rather_than_from_the_hub(echoself: Cli, begun: Cli) -> None:
    begun(CYCLE)
    begun(f"train --tokenizer bytes {SMALL} --max-iters 30 --output-dir other")
    named = echoself(CYCLE, "--checkpoint other/checkpoint-30-decayed --output-dir two")
    assert (named["step"], named["deployed"]) == ("44", "true")
    again = echoself(CYCLE, "--checkpoint other/checkpoint-30-decayed --output-dir three")
    assert (again["step"], again["result"]) == ("44", "advanced")  # the same steps again: its weights are published already


def test_a_failure_after_training_is_above_what_was_trained(echoself: Cli, workspace: Path, tmp_path: Path) -> None:
    echoself(CYCLE, "--tag v1")
    (tmp_path / "summary.md").unlink()
    echoself(CYCLE, "--tag v1 --gate none", code=4)
    titles = [line for line in (tmp_path / "summary.md").read_text().splitlines() if line.startswith("#")]
    assert len(titles) == 2
    assert titles[0].startswith("# Failed: Tag v1 of ")
    assert titles[1].startswith("## Before that: Trained to step ")
