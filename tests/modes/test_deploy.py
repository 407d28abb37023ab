import json
import shutil
from pathlib import Path

import pytest

from echoself_action.hub.client import open_hub

from ..conftest import SMALL, Cli

DEPLOY = "deploy --hub hub --repo-id me/model"


@pytest.fixture
def trained(begun: Cli) -> dict[str, str]:
    return begun(f"train --tokenizer bytes {SMALL}")


def test_deploy_publishes_the_best_checkpoint_and_reports_it(echoself: Cli, trained: dict[str, str], tmp_path: Path) -> None:
    outputs = echoself(DEPLOY, "--tag v1")
    assert (outputs["deployed"], outputs["step"], outputs["tag"]) == ("true", "20", "v1")
    with open_hub("hub", None) as hub:
        assert hub.api.list_repo_refs("me/model").tags[0].target_commit == outputs["commit_sha"]
    assert f"Commit `{outputs['commit_sha']}`" in (tmp_path / "summary.md").read_text()


def test_the_parity_figures_are_in_the_metadata_the_card_and_the_summary(
    echoself: Cli, trained: dict[str, str], tmp_path: Path
) -> None:
    echoself(DEPLOY, "--dry-run")
    facts = Path(trained["model_dir"]) / "training_metadata.json"
    assert json.loads(facts.read_text())["parity"] is None
    echoself(DEPLOY)
    here = json.loads(facts.read_text())["parity"]
    assert (here["tensors"], here["argmax_agreement"], here["positions"]) == (28, 1, 4 * 32)
    with open_hub("hub", None) as hub:
        assert Path(hub.api.hf_hub_download("me/model", "training_metadata.json")).read_bytes() == facts.read_bytes()
        card = Path(hub.api.hf_hub_download("me/model", "README.md")).read_text()
    for text in (card, (tmp_path / "summary.md").read_text()):
        assert f"all 28 tensors match; max absolute logit difference {here['max_abs_diff']:.1e}" in text


def test_deploy_shows_the_sample_of_the_job_that_trained_and_publishes_it(echoself: Cli, trained: dict[str, str]) -> None:
    facts = Path(trained["model_dir"]) / "training_metadata.json"
    sample = json.loads(facts.read_text())["sample"]
    assert sample["from_corpus"]
    assert any(sample["prompt"] in path.read_text() for path in Path("docs").iterdir())
    echoself(DEPLOY)
    with open_hub("hub", None) as hub:
        published = Path(hub.api.hf_hub_download("me/model", "training_metadata.json")).read_text()
    assert json.loads(published)["sample"] == sample


def test_the_prompt_of_a_model_from_elsewhere_is_from_data_if_that_is_set(echoself: Cli, trained: dict[str, str]) -> None:
    folder = Path(trained["model_dir"]).rename("elsewhere")
    (folder / "training_metadata.json").unlink()
    (folder / "held_out.safetensors").unlink()
    shutil.rmtree(folder / "training_state", ignore_errors=True)
    samples = []
    for repo, given in (("me/one", ""), ("me/two", "--data docs/*.md")):
        echoself("deploy --hub hub --checkpoint elsewhere --gate none --repo-id", repo, given)
        with open_hub("hub", None) as hub:
            facts = Path(hub.api.hf_hub_download(repo, "training_metadata.json")).read_text()
        samples.append(json.loads(facts)["sample"])
    assert (samples[0]["prompt"], samples[0]["from_corpus"]) == ("The", False)
    assert samples[1]["from_corpus"]
    assert any(samples[1]["prompt"] in path.read_text() for path in Path("docs").iterdir())


def test_deploy_of_a_published_model_does_nothing(echoself: Cli, trained: dict[str, str]) -> None:
    first, second = echoself(DEPLOY), echoself(DEPLOY)
    assert second["deployed"] == "false"
    assert second["commit_sha"] == first["commit_sha"]


def test_a_dry_run_prints_the_plan_and_uploads_nothing(
    echoself: Cli, trained: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = echoself(DEPLOY, "--dry-run")
    assert outputs["deployed"] == "false"
    assert "model.safetensors" in capsys.readouterr().out
    with open_hub("hub", None) as hub:
        assert not hub.api.repo_exists("me/model")


def test_a_card_written_by_the_user_is_kept(echoself: Cli, trained: dict[str, str]) -> None:
    with open_hub("hub", None) as hub:
        hub.api.create_repo("me/model")
        hub.api.upload_file(path_or_fileobj=b"# Mine\n", path_in_repo="README.md", repo_id="me/model")
    echoself(DEPLOY)
    with open_hub("hub", None) as hub:
        assert Path(hub.api.hf_hub_download("me/model", "README.md")).read_text() == "# Mine\n"
        assert hub.api.file_exists("me/model", "model.safetensors")


@pytest.mark.parametrize(("more", "code"), [("", 0), ("--gate-fails-job true", 5)])
def test_a_model_that_the_gate_refuses_is_not_published(
    echoself: Cli, trained: dict[str, str], tmp_path: Path, more: str, code: int
) -> None:
    outputs = echoself(DEPLOY, "--gate max_val_loss=0.5", more, code=code)
    assert (outputs["gate_result"], outputs["deployed"], outputs["commit_sha"]) == ("refused", "false", "")
    assert "did not pass the gate" in (tmp_path / "summary.md").read_text()
    with open_hub("hub", None) as hub:
        assert not hub.api.file_exists("me/model", "model.safetensors")


def test_a_model_that_passes_the_gate_is_published(echoself: Cli, trained: dict[str, str]) -> None:
    outputs = echoself(DEPLOY, "--gate max_val_loss=9.5")
    assert (outputs["gate_result"], outputs["deployed"]) == ("passed", "true")


def test_deploy_without_a_checkpoint_fails(echoself: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    echoself(DEPLOY, code=3)
    assert "There is no checkpoint in echoself-model" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_not_published(
    echoself: Cli, trained: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    weights = Path(trained["model_dir"]) / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    echoself(DEPLOY, code=3)
    assert "is damaged" in capsys.readouterr().err
    with open_hub("hub", None) as hub:
        assert not hub.api.repo_exists("me/model")
