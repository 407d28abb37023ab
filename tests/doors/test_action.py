"""The action as a runner runs it: modes, exit codes, cancellation, and hostile inputs."""

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from echoself_action.config.inputs import ACTION_INPUTS, Inputs
from echoself_action.config.outputs import Outputs
from echoself_action.config.reference import with_tables

from .conftest import ENDLESS, ROOT, SMALL, Job, Runner

HARM = (
    "$(touch pwned)`touch pwned`;touch pwned|\"'\\\n::set-output name=step::9\n::add-mask::x\n%0A::error::y\n##[error]z\nEOF\n"
    "日本\u202e é"
)
TEXT_INPUTS = [
    name for name, declared in Inputs.model_fields.items() if name == "output_dir" or "str" in str(declared.annotation).lower()
]
TAKE_ANY_TEXT = {"hub", "hf_token", "candidates", "output_dir", "signer"}  # a cycle accepts any text in these
OURS = {"group", "endgroup", "error", "warning"}


def all_empty(job: Job) -> bool:
    return job.outputs == dict.fromkeys(job.outputs, "")


def test_action_yml_matches_the_inputs() -> None:
    text = (ROOT / "action.yml").read_text()
    assert text == with_tables(text), "run ./run docs"
    action = yaml.safe_load(text)
    assert list(action["inputs"]) == list(ACTION_INPUTS)
    assert len(action["inputs"]) == 26
    assert len(action["description"]) < 80
    assert list(action["outputs"]) == list(Outputs.__dataclass_fields__)
    assert not [step for step in action["runs"]["steps"] if "${{" in step["run"] or "uses" in step]


def test_train_deploy_and_pull_share_nothing_but_the_workspace(runner: Runner) -> None:
    trained = runner.run(SMALL | {"mode": "train"})
    assert trained.code == 0, trained.log
    assert (trained.outputs["step"], trained.outputs["stopped_by"]) == ("5", "max_iters")
    assert trained.summary.startswith("# Advanced to step 5: ")

    deployed = runner.run({"mode": "deploy", "repo_id": "me/model", "hub": "hub"})
    assert deployed.code == 0, deployed.log
    assert deployed.outputs["deployed"] == "true"
    assert deployed.summary.startswith("# Published: ")

    pulled = runner.run({"mode": "pull", "repo_id": "me/model", "hub": "hub", "output_dir": "pulled"})
    assert pulled.code == 0, pulled.log
    assert pulled.outputs["commit_sha"] == deployed.outputs["commit_sha"]
    assert pulled.summary.startswith("# Pulled step 5 of ")
    weights = [(runner.workspace / job.outputs["model_dir"] / "model.safetensors").read_bytes() for job in (trained, pulled)]
    assert weights[0] == weights[1]


def test_cycle_resumes_where_the_last_job_stopped(runner: Runner) -> None:
    for step in ("5", "9"):
        job = runner.run(SMALL | {"mode": "cycle", "repo_id": "me/model", "hub": "local"})
        assert job.code == 0, job.log
        assert (job.outputs["step"], job.outputs["deployed"]) == (step, "true")
        shutil.rmtree(runner.workspace / "echoself-model")


def test_the_yaml_file_of_the_repository_is_read(runner: Runner) -> None:
    (runner.workspace / "my.yml").write_text(json.dumps(SMALL | {"mode": "train"}))
    job = runner.run({"config": "my.yml", "max_iters": "6"})
    assert job.outputs["step"] == "6", job.log


def test_an_invalid_input_is_exit_2_with_an_annotation_and_a_summary(runner: Runner) -> None:
    job = runner.run({"mode": "train", "preset": "ci", "n_embd": "130", "seed": "x"})
    assert job.code == 2
    assert job.commands == ["error", "error"]
    assert "n_embd in settings: 130 is not divisible by n_head" in job.summary
    assert all_empty(job)


def test_a_setting_under_with_is_exit_2_with_the_yaml_to_write(runner: Runner) -> None:
    """As in workflows for versions in which every setting was an input. The runner only warns, and passes it on."""
    job = runner.start_as_written({"mode": "train", "n_layer": "6", "language": "en\nde", "seed": "1"}).end()
    assert job.warning == "Unexpected input(s) 'language', 'n_layer', 'seed'"
    assert job.code == 2
    assert job.commands == ["error"]
    assert "inputs n_layer, language, seed: settings, not inputs of the action" in job.summary
    lines = job.summary.partition("settings: |\n")[2].splitlines()[:3]
    assert [line.strip() for line in lines] == ["n_layer: 6", 'language: "en\\nde"', "seed: 1"]
    assert all_empty(job)


def test_all_output_is_on_one_stream_and_in_order(tmp_path: Path) -> None:
    inputs = json.dumps({"mode": "train", "preset": "ci", "settings": "n_embd: 130\nseed: x"})
    environment = os.environ | {"GITHUB_ACTIONS": "true", "ECHOSELF_INPUTS": inputs}
    ended = subprocess.run(
        [sys.executable, ROOT / "entrypoint.py"], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=60
    )
    assert (ended.returncode, ended.stderr) == (2, "")
    text, *commands = ended.stdout.split("::error ")
    assert text.startswith("echoself: 2 inputs are invalid")
    assert [command.endswith("\n") for command in (text, *commands)] == [True, True, True]


@pytest.mark.parametrize(("fails_job", "code"), [("", 0), ("true", 5)])
def test_a_model_that_fails_the_gate_stays_in_the_workspace(runner: Runner, fails_job: str, code: int) -> None:
    hub = {"repo_id": "me/model", "hub": "hub"}
    job = runner.run(SMALL | hub | {"mode": "cycle", "gate": "max_val_loss=0.5", "gate_fails_job": fails_job})
    assert job.code == code, job.log
    assert job.outputs["result"] == "advanced"
    assert job.summary.startswith("# Advanced to step ")
    assert (job.outputs["gate_result"], job.outputs["deployed"]) == ("refused", "false")
    assert "did not pass the gate" in job.summary
    assert (runner.workspace / job.outputs["model_dir"] / "model.safetensors").exists()
    published = subprocess.run(
        ["git", "--git-dir", runner.workspace / "hub/models/me/model.git", "ls-tree", "--name-only", "main"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "model.safetensors" not in published.stdout.split()


@pytest.mark.parametrize("name", ["runtime", "image"])
def test_inputs_that_are_read_before_the_file_are_rejected_in_it(runner: Runner, name: str) -> None:
    (runner.workspace / "my.yml").write_text(f"mode: train\n{name}: docker\n")
    job = runner.run({"config": "my.yml"})
    assert job.code == 2
    assert f"{name} in my.yml: cannot be set in the file, which is read too late" in job.summary


def test_device_cuda_without_a_gpu_is_exit_2(runner: Runner) -> None:
    if shutil.which("nvidia-smi"):
        pytest.skip("this machine has a GPU")
    job = runner.run(SMALL | {"mode": "train", "device": "cuda"})
    assert job.code == 2
    assert "device: cuda" in job.summary
    assert "Nothing was trained." in job.summary


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_cancelled_run_saves_within_six_seconds_and_can_be_resumed(runner: Runner, number: signal.Signals) -> None:
    job = runner.start(ENDLESS | {"mode": "train"})
    job.wait_for("step ")
    job.send(number)
    asked = time.monotonic()
    job.end()
    assert time.monotonic() - asked < 6
    assert job.code == 130, job.log
    assert job.outputs["stopped_by"] == "signal"
    assert (runner.workspace / job.outputs["checkpoint"] / "training_state" / "state.json").exists()
    assert "The run was interrupted by a signal" in job.summary
    again = runner.run(SMALL | {"mode": "train", "resume": "must"})
    assert int(again.outputs["step"]) > 0, again.log


def test_a_killed_docker_client_leaves_no_container_and_loses_no_work(runner: Runner) -> None:
    job = runner.start(ENDLESS | {"mode": "train"})
    job.wait_for("step ")
    job.send(signal.SIGKILL)
    job.end()
    assert job.code == 137
    assert all_empty(job)
    if "image" in runner.always:  # on the host the killed process is the one that trains
        assert "## echoself-action: interrupted" in job.summary
        assert list(runner.workspace.glob("echoself-model/checkpoint-*/training_state/state.json"))


def harmless(runner: Runner, job: Job) -> None:
    """Neither a shell nor the runner executed anything in the inputs."""
    assert job.code in (0, 2, 3, 4), job.log
    assert not list(runner.root.rglob("pwned*"))
    assert set(job.commands) <= OURS, job.log
    assert job.masks <= 1, "only hf_token is a secret"
    assert "::error::y" not in [line.strip() for line in job.log.splitlines()]
    assert job.outputs["step"] != "9"
    assert job.code == 0 or job.summary
    assert "Traceback" not in job.log


@pytest.mark.parametrize("name", [name for name in TEXT_INPUTS if name not in TAKE_ANY_TEXT])
def test_hostile_text_in_an_input_is_not_executed(runner: Runner, name: str) -> None:
    hub = {"repo_id": "me/model", "hub": "local"}
    harmless(runner, runner.run(SMALL | hub | {"mode": "cycle", name: HARM}))


def test_hostile_text_in_all_free_text_inputs_is_not_executed_and_the_run_succeeds(runner: Runner) -> None:
    job = runner.run(SMALL | {"mode": "cycle", "repo_id": "me/model"} | dict.fromkeys(TAKE_ANY_TEXT, HARM))
    harmless(runner, job)
    assert job.code == 0, job.log
    assert job.outputs["deployed"] == "true"


@pytest.mark.parametrize("name", TEXT_INPUTS)
def test_a_very_long_input_is_accepted_or_reported(runner: Runner, name: str) -> None:
    hub = {"repo_id": "me/model", "hub": "local"}
    job = runner.run(SMALL | hub | {"mode": "cycle", name: "é" * 50_000})
    harmless(runner, job)
    assert len(job.summary.encode()) < 2**20


def test_a_value_can_not_forge_another_input(runner: Runner) -> None:
    forged = '", "runtime": "x", "mode": "pull", "image": "evil'
    job = runner.run(SMALL | {"mode": "train", "hf_token": forged})
    assert job.code == 0, job.log


def test_no_token_in_files_on_the_hub(runner: Runner) -> None:
    token = "hf_neverSeenAnywhere12345"
    job = runner.run(SMALL | {"mode": "cycle", "repo_id": "me/model", "hub": "hub", "hf_token": token}, HF_TOKEN=token)
    assert job.outputs["deployed"] == "true", job.log
    show = ["git", "-c", "safe.directory=*", "--git-dir", runner.workspace / "hub/models/me/model.git", "cat-file"]
    objects = subprocess.run([*show, "--batch-all-objects", "--batch"], capture_output=True, check=True).stdout
    large = [path.read_bytes() for path in (runner.workspace / "hub").rglob("*") if path.is_file()]
    for secret in (token.encode(), base64.b64encode(token.encode()).rstrip(b"=")):
        assert not [content for content in (objects, *large) if secret in content]
    assert b"model.safetensors" in objects


def test_no_token_in_logs_or_files(runner: Runner) -> None:
    token = "hf_neverSeenAnywhere12345"
    job = runner.start(ENDLESS | {"mode": "cycle", "repo_id": "me/model", "hub": "local", "hf_token": token}, HF_TOKEN=token)
    job.wait_for("step ")
    processes = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    job.send(signal.SIGINT)
    job.end()
    assert job.code == 130, job.log
    encoded = base64.b64encode(token.encode()).decode().rstrip("=")
    files = [path for path in runner.root.rglob("*") if path.is_file() and path != job.log_file]
    shown = [processes, job.log, job.summary, *job.outputs.values()]
    for secret in (token, encoded):
        assert not [text for text in shown if secret in text]
        assert not [path for path in files if secret.encode() in path.read_bytes()]
