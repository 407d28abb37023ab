"""`checkpoint` by the command line: which checkpoint is chosen, what is logged, which artifacts are not trusted."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from echoself_action.checkpoint.metadata import read_metadata

from ..conftest import SMALL, Cli, contents
from ..formats.foreign_files import gpt2_weights, nanogpt_checkpoint, of_layout, save
from ..formats.test_find_checkpoints import Bomb
from ..github.server import TOKEN, GitHub, job_environment, running, workflow_run_event, zipped

AUTO = "--checkpoint auto"
HUB = "--hub hub --repo-id me/model"


def nanogpt(path: str, loss: float, **changes: Any) -> Path:
    return save(nanogpt_checkpoint() | {"best_val_loss": torch.tensor(loss)} | changes, Path(path))


def imported(outputs: dict[str, str]) -> float | None:
    facts = read_metadata(Path(outputs["model_dir"]))
    assert facts
    assert facts.imported_from
    return facts.imported_from.val_loss


def folder_as_files(folder: Path, under: str) -> dict[str, bytes]:
    return {f"{under}/{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_auto_chooses_the_lowest_held_out_loss_and_logs_why(
    echoself: Cli, workspace: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    nanogpt("a/best_model.pt", 3.0)
    nanogpt(".training-progress/checkpoints/latest_checkpoint.pt", 2.0, iter_num=5)
    save(nanogpt_checkpoint() | {"best_val_loss": 0.1, "more": Bomb()}, Path("b/ckpt.pt"))
    outputs = echoself("pull", AUTO, "--formats nanogpt")
    assert (outputs["model_dir"], outputs["step"], imported(outputs)) == ("echoself-model/checkpoint-5", "5", 2.0)
    assert (outputs["repo_url"], outputs["commit_sha"]) == ("", "")
    assert Path("echoself-model/nanogpt/ckpt.pt").is_file()
    summary = (tmp_path / "summary.md").read_text()
    assert summary.startswith("# Imported step 5 of latest_checkpoint.pt\n")
    assert "tensors match; max absolute logit difference" in summary
    output = capsys.readouterr().out
    for line in (
        "echoself-model: no complete checkpoint",
        "  a/best_model.pt: nanoGPT; step 7; held-out loss 3.0000",
        "  b/ckpt.pt uses posix.mkdir",
        "chosen: .training-progress/checkpoints/latest_checkpoint.pt, because it has the lowest recorded held-out loss, 2.0",
    ):
        assert line in output
    assert not Path("pwned").exists()


def test_auto_skips_and_logs_what_cannot_be_converted(
    echoself: Cli, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = nanogpt_checkpoint()
    bad["model"]["transformer.ln_f.weight"][0] = float("nan")
    save(bad | {"best_val_loss": 1.0}, Path("a/ckpt.pt"))
    nanogpt("b/ckpt.pt", 2.0)
    assert imported(echoself("pull", AUTO)) == 2.0
    assert "skipped: a/ckpt.pt has invalid values" in capsys.readouterr().out


def test_auto_passes_n_head_to_files_that_do_not_record_it(
    echoself: Cli, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(of_layout("a state dict and nothing else", gpt2_weights(linear=True)), Path("ckpt.pt"))
    echoself("pull", AUTO, code=3)
    assert "skipped: ckpt.pt does not record the number of attention heads" in capsys.readouterr().out
    outputs = echoself("pull --n-head 2", AUTO)
    assert json.loads(Path(outputs["model_dir"], "config.json").read_text())["n_head"] == 2
    assert "n_head=2 was given" in capsys.readouterr().out


def test_the_newest_checkpoint_in_output_dir_comes_first(echoself: Cli, begun: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    begun(f"train --tokenizer bytes {SMALL}")
    nanogpt("ckpt.pt", 0.1)
    assert echoself("pull", AUTO)["model_dir"] == "echoself-model/checkpoint-20-decayed"
    assert "because it is the newest complete checkpoint in echoself-model" in capsys.readouterr().out
    assert echoself(f"train {SMALL}", AUTO)["step"] == "36"
    assert echoself(f"deploy {HUB}", AUTO)["step"] == "36"


def test_training_resumes_from_the_file_that_auto_found(echoself: Cli, workspace: Path) -> None:
    save(nanogpt_checkpoint(vocab_size=257), Path("nanoGPT/out/ckpt.pt"))
    outputs = echoself("train --preset ci --max-iters 3 --batch-size 4 --eval-interval 3 --device cpu --tokenizer bytes", AUTO)
    assert outputs["checkpoint"] == "echoself-model/checkpoint-10"


def test_auto_finds_a_downloaded_model_folder(echoself: Cli, begun: Cli) -> None:
    begun(f"train --tokenizer bytes {SMALL} --output-dir downloaded")
    outputs = echoself(f"train {SMALL}", AUTO)
    assert outputs["checkpoint"] == "echoself-model/checkpoint-36-decayed"
    assert echoself(f"deploy {HUB} --output-dir none", AUTO)["model_dir"].startswith(("downloaded/", "echoself-model/"))


def test_auto_searches_the_hub_last_and_not_for_deploy(echoself: Cli, begun: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    begun(f"cycle {HUB} --tokenizer bytes {SMALL}")
    shutil.rmtree("echoself-model")
    assert echoself(f"pull {HUB}", AUTO)["step"] == "20"
    shutil.rmtree("echoself-model")
    assert echoself(f"train {HUB} {SMALL}", AUTO)["step"] == "36"
    shutil.rmtree("echoself-model")
    echoself(f"deploy {HUB}", AUTO, code=3)
    assert "the Hub: not searched, because deploy publishes there" in capsys.readouterr().err


def test_no_checkpoint_anywhere_is_exit_3_with_all_places(
    echoself: Cli, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    echoself("pull", AUTO, code=3)
    output = capsys.readouterr().err
    assert (
        "checkpoint: auto found no usable checkpoint: echoself-model: no complete checkpoint; the working directory: no"
        in output
    )
    assert "artifacts: this job was not triggered by another run (workflow_run event)" in output
    assert "the Hub: not searched, because repo_id is not set. Nothing was done." in output
    assert "Train first" in output
    assert not (workspace / "echoself-model").exists()


@pytest.fixture
def triggered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[GitHub]:
    """A job that another run of this repository triggered, with the GitHub that has its artifacts."""
    with running() as github:
        for name, value in job_environment(github, tmp_path).items():
            monkeypatch.setenv(name, value)
        yield github


def test_a_checkpoint_in_an_artifact_of_the_triggering_run_is_copied(
    echoself: Cli, begun: Cli, triggered: GitHub, capsys: pytest.CaptureFixture[str]
) -> None:
    begun(f"train --tokenizer bytes {SMALL} --output-dir trained")
    triggered.artifacts = {
        "old": b"",
        "bad": zipped({"../ckpt.pt": b""}),
        "model": zipped(folder_as_files(Path("trained"), "x")),
        "nanogpt": zipped({"ckpt.pt": nanogpt("ckpt.pt", 9.0).read_bytes()}),
    }
    triggered.expired = {"old"}
    shutil.rmtree("trained")
    Path("ckpt.pt").unlink()
    outputs = echoself(f"deploy {HUB}", AUTO)
    assert (outputs["model_dir"], outputs["deployed"]) == ("echoself-model/checkpoint-20-decayed", "true")
    assert contents(Path("echoself-model")) == ["checkpoint-20-decayed", "report.html"]
    assert (Path(outputs["model_dir"]) / "training_state/optimizer.safetensors").is_file()
    output = capsys.readouterr().out
    assert "artifact 'old' of run 77 (training, success) has expired" in output
    assert "artifact 'bad' of run 77 (training, success) has an entry '../ckpt.pt', which may be outside its folder" in output
    assert TOKEN not in output


def test_a_foreign_checkpoint_in_an_artifact_is_imported(echoself: Cli, workspace: Path, triggered: GitHub) -> None:
    content = nanogpt("ckpt.pt", 2.0).read_bytes()
    Path("ckpt.pt").unlink()
    triggered.artifacts = {"checkpoints": zipped({"out/ckpt.pt": content, "log.txt": b"x"})}
    outputs = echoself("pull", AUTO)
    assert (outputs["model_dir"], imported(outputs)) == ("echoself-model/checkpoint-7", 2.0)
    assert contents(Path("echoself-model")) == ["checkpoint-7"]


def test_artifacts_of_a_run_from_a_fork_are_not_requested(
    echoself: Cli, workspace: Path, triggered: GitHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    event = workflow_run_event(head_repository={"full_name": "stranger/repo"}, event="pull_request")
    (tmp_path / "event.json").write_text(json.dumps(event))
    echoself(f"deploy {HUB}", AUTO, code=3)
    assert "ran code of stranger/repo, not of me/repo: not trusted" in capsys.readouterr().err
    assert triggered.requests == []


def test_a_job_without_permission_to_read_artifacts_is_exit_4(
    echoself: Cli, workspace: Path, triggered: GitHub, capsys: pytest.CaptureFixture[str]
) -> None:
    triggered.refuse["list"] = (403, {})
    echoself("pull", AUTO, code=4)
    output = capsys.readouterr().err
    assert "permissions: actions: read" in output
    assert TOKEN not in output


def test_pull_imports_a_given_checkpoint(echoself: Cli, begun: Cli) -> None:
    begun(f"train --tokenizer bytes {SMALL} --output-dir there")
    outputs = echoself("pull --checkpoint there/checkpoint-20-decayed")
    assert outputs["model_dir"] == "echoself-model/checkpoint-20-decayed"
    nanogpt("one.pt", 2.0)
    assert echoself("pull --checkpoint *.pt --output-dir other")["model_dir"] == "other/checkpoint-7"
    echoself("pull", code=2)  # neither a repo nor a checkpoint
