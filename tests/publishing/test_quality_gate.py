"""A worse model never replaces a better one by accident."""

import shutil
from pathlib import Path

import pytest

from echoself_action.checkpoint.metadata import read_metadata
from echoself_action.hub.client import open_hub

from ..conftest import SMALL, Cli

HUB = "--hub hub --repo-id me/model"
BETTER, WORSE = f"train --tokenizer bytes {SMALL} --max-iters 60", f"train --tokenizer bytes {SMALL} --max-iters 10"


def commits() -> list[str]:
    with open_hub("hub", None) as hub:
        return [commit.title for commit in hub.api.list_repo_commits("me/model")]


def test_a_worse_model_is_not_published_and_a_better_one_is_with_its_figures(echoself: Cli, begun: Cli, tmp_path: Path) -> None:
    worse, better = begun(f"{WORSE} --output-dir worse"), begun(f"{BETTER} --output-dir better")
    first = echoself(f"deploy {HUB}", "--output-dir worse")
    assert (first["gate_result"], first["deployed"]) == ("passed", "true")  # nothing was published before
    second = echoself(f"deploy {HUB}", "--output-dir better")
    assert (second["gate_result"], second["deployed"]) == ("passed", "true")
    facts = read_metadata(Path(second["model_dir"]))
    assert facts
    assert facts.compared
    assert facts.compared.against == first["commit_sha"]
    assert facts.compared.high < 0
    assert facts.compared.published_nats == pytest.approx(float(worse["val_loss"]), abs=1e-4)
    assert facts.compared.published == pytest.approx(float(worse["bits_per_byte"]), abs=1e-4)
    assert facts.compared.candidate == pytest.approx(float(better["bits_per_byte"]), abs=1e-4)
    with open_hub("hub", None) as hub:
        card = Path(hub.api.hf_hub_download("me/model", "README.md")).read_text()
    assert "paired bootstrap over" in card
    before = commits()
    third = echoself(f"deploy {HUB} --gate-fails-job true", "--output-dir worse", code=5)
    assert (third["gate_result"], third["deployed"]) == ("refused", "false")
    assert "not significantly better than the published model" in (tmp_path / "summary.md").read_text()
    assert echoself(f"deploy {HUB}", "--output-dir worse")["deployed"] == "false"
    assert echoself(f"deploy {HUB} --gate not_worse=0.01", "--output-dir worse")["deployed"] == "false"
    assert commits() == before
    assert echoself(f"deploy {HUB} --gate none", "--output-dir worse")["deployed"] == "true"


def test_deploying_the_same_model_again_makes_no_commit(echoself: Cli, begun: Cli) -> None:
    begun(f"{BETTER} --output-dir better")
    shutil.copytree("better", "echoself-model")
    shutil.move("better", "copy")  # as another job has it: without what the first deploy wrote down
    first = echoself(f"deploy {HUB}")
    assert echoself(f"deploy {HUB}")["commit_sha"] == first["commit_sha"]
    assert echoself(f"deploy {HUB}", "--output-dir copy")["commit_sha"] == first["commit_sha"]


def test_the_gate_uses_the_held_out_text_of_the_checkpoint_or_else_of_data(
    echoself: Cli, begun: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    begun(f"{WORSE} --output-dir worse")
    better = begun(f"{BETTER} --output-dir better")
    echoself(f"deploy {HUB}", "--output-dir worse")
    for folder in Path("better").glob("checkpoint-*"):
        (folder / "held_out.safetensors").unlink()
    shutil.move("docs", "elsewhere")
    refused = echoself(f"deploy {HUB} --data nothing/*.md", "--output-dir better")
    assert refused["gate_result"] == "refused"
    assert "there is no held-out text to compare on" in capsys.readouterr().out
    assert echoself(f"deploy {HUB} --data elsewhere/*.md", "--output-dir better")["deployed"] == "true"
    assert better["val_loss"]
    with open_hub("hub", None) as hub:
        assert "held_out.safetensors" not in hub.api.list_repo_files("me/model")


def test_a_model_with_another_tokenizer_is_compared_in_bits_per_byte(
    echoself: Cli, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    echoself(BETTER, "--output-dir bytes --learning-rate 1e-2")
    echoself(WORSE.replace("bytes", "bpe:300"), "--output-dir bpe")
    echoself(f"deploy {HUB}", "--output-dir bpe")
    assert echoself(f"deploy {HUB}", "--output-dir bytes")["gate_result"] == "passed"
    assert "bits per byte" in capsys.readouterr().out
    echoself(f"deploy {HUB}", "--output-dir bpe")
