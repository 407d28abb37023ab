"""`checkpoint: auto` through the front door: what is chosen, what is said, and what is not trusted."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from echoself_action.checkpoint.metadata import read_metadata

from ..conftest import SMALL, Cli
from ..formats.foreign_files import nanogpt_checkpoint, save
from ..formats.test_scan import Bomb
from ..github.server import TOKEN, GitHub, job_environment, running, workflow_run_event, zipped

AUTO = "--checkpoint auto"
HUB = "--hub hub --repo-id me/model"


def nanogpt(path: str, loss: float, **changes: Any) -> Path:
    return save(nanogpt_checkpoint() | {"best_val_loss": torch.tensor(loss)} | changes, Path(path))


def imported(outputs: dict[str, str]) -> float | None:
    facts = read_metadata(Path(outputs["model_dir"]))
    assert facts
    return facts.best_val_loss


def folder_as_files(folder: Path, under: str) -> dict[str, bytes]:
    return {f"{under}/{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_takes_the_lowest_loss_and_says_what_it_saw_and_why(
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
    assert "## Imported step 5 of `latest_checkpoint.pt`" in summary
    assert "tensors, none missing and none left over; the largest difference of a logit is" in summary
    said = capsys.readouterr().out
    for line in (
        "echoself-model: no complete checkpoint",
        "  a/best_model.pt: nanoGPT; step 7; held-out loss 3.0000",
        "  b/ckpt.pt asks for posix.mkdir",
        "chosen: .training-progress/checkpoints/latest_checkpoint.pt, because it states the lowest held-out loss, 2.0000, of 3",
    ):
        assert line in said
    assert not Path("pwned").exists()


def test_what_cant_be_converted_is_passed_over_and_said(
    echoself: Cli, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = nanogpt_checkpoint()
    bad["model"]["transformer.ln_f.weight"][0] = float("nan")
    save(bad | {"best_val_loss": 1.0}, Path("a/ckpt.pt"))
    nanogpt("b/ckpt.pt", 2.0)
    assert imported(echoself("pull", AUTO)) == 2.0
    assert "passed over: a/ckpt.pt has weights that are not numbers" in capsys.readouterr().out


def test_the_newest_checkpoint_in_output_dir_comes_first(echoself: Cli, begun: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    begun(f"train --tokenizer bytes {SMALL}")
    nanogpt("ckpt.pt", 0.1)
    assert echoself("pull", AUTO)["model_dir"] == "echoself-model/checkpoint-20"
    assert "because it is the newest complete checkpoint in echoself-model" in capsys.readouterr().out
    assert echoself(f"train {SMALL}", AUTO)["step"] == "36"
    assert echoself(f"deploy {HUB}", AUTO)["step"] == "36"


def test_training_goes_on_from_the_file_that_was_found(echoself: Cli, workspace: Path) -> None:
    save(nanogpt_checkpoint(vocab_size=257), Path("nanoGPT/out/ckpt.pt"))
    outputs = echoself("train --max-iters 3 --batch-size 4 --eval-interval 3 --device cpu --tokenizer bytes", AUTO)
    assert outputs["checkpoint"] == "echoself-model/checkpoint-10"


def test_a_model_folder_that_was_downloaded_is_found(echoself: Cli, begun: Cli) -> None:
    begun(f"train --tokenizer bytes {SMALL} --output-dir downloaded")
    outputs = echoself(f"train {SMALL}", AUTO)
    assert outputs["checkpoint"] == "echoself-model/checkpoint-36"
    assert echoself(f"deploy {HUB} --output-dir none", AUTO)["model_dir"].startswith(("downloaded/", "echoself-model/"))


def test_the_hub_is_the_last_place_but_not_of_a_publish(echoself: Cli, begun: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    begun(f"cycle {HUB} --tokenizer bytes {SMALL}")
    shutil.rmtree("echoself-model")
    assert echoself(f"pull {HUB}", AUTO)["step"] == "20"
    shutil.rmtree("echoself-model")
    assert echoself(f"train {HUB} {SMALL}", AUTO)["step"] == "36"
    shutil.rmtree("echoself-model")
    echoself(f"deploy {HUB}", AUTO, code=3)
    assert "the Hub: not asked, because deploy publishes there" in capsys.readouterr().err


def test_nothing_anywhere_is_exit_3_with_what_was_looked_at_and_what_to_do(
    echoself: Cli, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    echoself("pull", AUTO, code=3)
    told = capsys.readouterr().err
    assert (
        "checkpoint: auto found none that can be used: echoself-model: no complete checkpoint; the current folder: none" in told
    )
    assert "artifacts: no other run triggered this one (that is so in a workflow_run event)" in told
    assert "the Hub: not asked, because no repo_id is given. Nothing was done." in told
    assert "Train first" in told
    assert not (workspace / "echoself-model").exists()


@pytest.fixture
def triggered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[GitHub]:
    """A job that another run of this repository triggered, with the GitHub that has its artifacts."""
    with running() as github:
        for name, value in job_environment(github, tmp_path).items():
            monkeypatch.setenv(name, value)
        yield github


def test_an_artifact_of_the_triggering_run_is_taken_in(
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
    assert (outputs["model_dir"], outputs["deployed"]) == ("echoself-model/checkpoint-20", "true")
    assert {path.name for path in Path("echoself-model").iterdir()} == {"checkpoint-20", "report.html"}
    assert (Path(outputs["model_dir"]) / "training_state/optimizer.safetensors").is_file()
    said = capsys.readouterr().out
    assert "artifact 'old' of run 77 (training, success) has expired" in said
    assert "artifact 'bad' of run 77 (training, success) has an entry '../ckpt.pt', which may lead out of its folder" in said
    assert TOKEN not in said


def test_a_foreign_checkpoint_in_an_artifact_is_imported(echoself: Cli, workspace: Path, triggered: GitHub) -> None:
    content = nanogpt("ckpt.pt", 2.0).read_bytes()
    Path("ckpt.pt").unlink()
    triggered.artifacts = {"checkpoints": zipped({"out/ckpt.pt": content, "log.txt": b"x"})}
    outputs = echoself("pull", AUTO)
    assert (outputs["model_dir"], imported(outputs)) == ("echoself-model/checkpoint-7", 2.0)
    assert [path.name for path in Path("echoself-model").iterdir()] == ["checkpoint-7"]


def test_the_artifacts_of_a_forks_run_are_not_even_asked_for(
    echoself: Cli, workspace: Path, triggered: GitHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    event = workflow_run_event(head_repository={"full_name": "stranger/repo"}, event="pull_request")
    (tmp_path / "event.json").write_text(json.dumps(event))
    echoself(f"deploy {HUB}", AUTO, code=3)
    assert "ran code of stranger/repo, not of me/repo: not trusted" in capsys.readouterr().err
    assert triggered.requests == []


def test_a_job_without_the_right_to_read_artifacts_is_exit_4(
    echoself: Cli, workspace: Path, triggered: GitHub, capsys: pytest.CaptureFixture[str]
) -> None:
    triggered.refuse["list"] = (403, {})
    echoself("pull", AUTO, code=4)
    told = capsys.readouterr().err
    assert "permissions: actions: read" in told
    assert TOKEN not in told


def test_pull_takes_in_a_checkpoint_that_is_named(echoself: Cli, begun: Cli) -> None:
    begun(f"train --tokenizer bytes {SMALL} --output-dir there")
    outputs = echoself("pull --checkpoint there/checkpoint-20")
    assert outputs["model_dir"] == "echoself-model/checkpoint-20"
    nanogpt("one.pt", 2.0)
    assert echoself("pull --checkpoint *.pt --output-dir other")["model_dir"] == "other/checkpoint-7"
    echoself("pull", code=2)  # neither a repo nor a checkpoint
