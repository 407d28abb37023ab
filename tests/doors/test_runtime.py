"""Where the action runs: in a container or a venv, with which flavor, and what the container knows of the job."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time as clock
from pathlib import Path

import pytest

from .conftest import JOB_TOKEN, PATH, ROOT, SMALL, Runner, add_venv, parsed, recorded, with_settings

SOURCES = [ROOT / "entrypoint.py", *(ROOT / "echoself_action").rglob("*.py")]
# of `echoself hub`, and of processes that the program starts
NOT_OF_A_JOB = {"ECHOSELF_HUB_TOKEN", "HF_HOME", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_PROGRESS_BARS"}


@pytest.fixture
def no_docker(tmp_path: Path) -> str:
    """A PATH with all programs except Docker's client and python3."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for place in PATH.split(":")[1:]:
        for program in Path(place).glob("*"):
            if program.name not in ("docker", "nvidia-smi") and not program.name.startswith("python"):
                (folder / program.name).is_symlink() or (folder / program.name).symlink_to(program)
    return str(folder)


BROKEN = {
    "the Docker engine can't be used: Cannot connect to the Docker daemon": {"NO_ENGINE": "yes"},
    "the Docker engine does not see the folders of this job": {"ELSEWHERE": "yes"},
    "this runner has a GPU, but Docker has no NVIDIA Container Toolkit to use it": {"GPU": "yes", "NO_TOOLKIT": "yes"},
    "containers don't see this runner's GPU: nvidia-smi: no such file": {"GPU": "yes", "NO_DEVICE": "yes"},
    "the image could be neither pulled nor built": {"UNPUBLISHED": "yes", "NO_BUILD": "yes"},
}


@pytest.mark.parametrize("reason", BROKEN)
def test_where_docker_does_not_work_auto_takes_a_venv_and_docker_is_refused(asked: Runner, reason: str) -> None:
    job = asked.run({"mode": "train", "seed": "x"}, **BROKEN[reason])
    assert f"runtime: venv, because {reason}" in job.log
    assert "reusing the venv" in job.log
    assert "seed" in job.summary, "the program ran"
    assert [words[0] for words in recorded(asked)] in ([], ["pull"], ["pull", "build"])
    assert ("warning" in job.commands) == ("image" in reason)

    refused = asked.run({"mode": "train", "runtime": "docker"}, **BROKEN[reason])
    assert refused.code == 2
    assert f"runtime: docker: {reason}" in refused.summary
    assert "Use runtime: auto or host." in refused.summary


def test_without_a_docker_command_auto_takes_a_venv(on_host: Runner, no_docker: str) -> None:
    path = f"{PATH.split(':')[0]}:{no_docker}"
    job = on_host.run({"mode": "train", "seed": "x", "runtime": ""}, PATH=path)
    assert "runtime: venv, because this job has no docker command\n" in job.log
    assert "seed" in job.summary, "the program ran"


def test_names_of_inputs_are_read_in_any_case_as_github_does(asked: Runner) -> None:
    job = asked.start_as_written({"Mode": "train", "RUNTIME": "docker"}, NO_ENGINE="yes").end()
    assert job.code == 2
    assert "runtime: docker: the Docker engine can't be used" in job.summary


def test_an_image_that_can_not_be_used_is_refused_and_not_ignored(asked: Runner) -> None:
    job = asked.run({"mode": "train", "image": "mine:1"}, NO_ENGINE="yes")
    assert job.code == 2
    assert "image can't be used: the Docker engine can't be used" in job.summary


def test_an_image_for_another_architecture_is_never_run(asked: Runner) -> None:
    job = asked.run({"mode": "pull"}, IMAGE_ARCHITECTURE="arm64")
    assert "is for arm64, and this machine is amd64" in job.log
    assert [words[0] for words in recorded(asked)] == ["pull", "build", "run"], "it is built instead"
    assert recorded(asked)[-1][-1] == "sha256:built"

    refused = asked.run({"mode": "pull", "image": "mine:1"}, IMAGE_ARCHITECTURE="arm64")
    assert refused.code == 2
    assert "image: mine:1 is for another architecture than this machine" in refused.summary


def test_without_a_suitable_python_the_error_names_what_to_add(on_host: Runner, no_docker: str) -> None:
    job = on_host.run({"mode": "pull"}, PATH=no_docker)
    assert job.code == 2
    assert "runtime: host needs Python 3.11 to 3.14. Nothing was done." in job.summary
    assert "actions/setup-python" in job.summary
    job = on_host.run({"mode": "pull", "runtime": "auto"}, PATH=no_docker)
    assert "runtime: auto chose a venv, because this job has no docker command. It needs Python 3.11" in job.summary


def test_a_python_of_the_runners_tool_cache_is_found(action: Path, root: Path, tmp_path: Path, no_docker: str) -> None:
    tools = tmp_path / "tools"
    python = tools / "Python" / f"3.{sys.version_info[1]}.9" / "x64" / "bin" / "python3"
    python.parent.mkdir(parents=True)
    python.symlink_to(Path(sys.executable).resolve())
    add_venv(tools, action, [str(python)], Path(sysconfig.get_path("purelib")))
    job = Runner(root, action, tools, {}, {"PATH": no_docker}, {}).run({"mode": "train", "seed": "x"})
    assert "reusing the venv" in job.log, job.log
    assert "seed" in job.summary


# --- inputs that launch.sh reads before the program does


@pytest.mark.parametrize(
    ("settings", "flavor"),
    [
        ("device: cpu", "cpu"),
        ("n_layer: 2\ndevice: 'cpu'  # on purpose\r\nseed: 1", "cpu"),
        ('"device: cpu"', "cuda"),  # not a line of it
        ("# device: cpu\nxdevice: cpu\ndevice: [cpu]\nhub: |\n  device: cpu", "cuda"),
        ("device: cuda", "cuda"),
    ],
)
@pytest.mark.parametrize("place", ["settings", "file"])
def test_the_device_is_read_from_settings_and_from_the_file(asked: Runner, settings: str, flavor: str, place: str) -> None:
    inputs = {"mode": "train"}
    if place == "settings":
        inputs["settings"] = settings
    else:
        (asked.workspace / ".github").mkdir()
        (asked.workspace / ".github" / "echoself.yml").write_text(settings)
    asked.start_as_written(inputs, GPU="yes").end()
    assert recorded(asked)[0][-1].endswith(f"-{flavor}")


def test_settings_override_the_file(asked: Runner) -> None:
    (asked.workspace / "my file.yml").write_text("mode: train\ndevice: cpu\ncreate_release: true")
    asked.start_as_written({"config": "my file.yml"}, GPU="yes").end()
    given = {"config": "my file.yml", "settings": "device: auto", "create_release": "false"}
    asked.start_as_written(given, GPU="yes").end()
    pulls = [words[-1].rpartition("-")[2] for words in recorded(asked) if words[0] == "pull"]
    assert pulls == ["cpu", "cuda"]
    tokens = [line for line in Path(asked.environment["RECORD"]).read_text().splitlines() if line.startswith("token:")]
    assert tokens == [f"token: {JOB_TOKEN}", "token: none"]


def test_device_cuda_in_the_file_is_refused_without_a_gpu(asked: Runner) -> None:
    (asked.workspace / "my.yml").write_text("device: cuda")
    job = asked.run({"mode": "train", "config": "my.yml"})
    assert job.code == 2
    assert "device: cuda needs an NVIDIA GPU" in job.summary
    assert "Nothing was trained." in job.summary


# --- what the program reads of the job


def test_all_variables_of_a_job_that_the_program_reads_are_passed_to_the_container(asked: Runner) -> None:
    names = re.compile(r"\b(?:GITHUB|RUNNER|ACTIONS|ECHOSELF|HF)_[A-Z0-9_]*[A-Z0-9]\b")
    read = {name for file in SOURCES for name in names.findall(file.read_text(encoding="utf-8"))} - NOT_OF_A_JOB
    assert {"GITHUB_WORKFLOW_REF", "ECHOSELF_INPUTS"} <= read
    asked.run({"mode": "pull"})
    assert read <= set(recorded(asked)[-1]), "add it to job_variables of launch.sh"


@pytest.mark.parametrize(("event", "time"), [("schedule", "1700000000"), ("push", "")])
def test_a_scheduled_job_is_told_when_its_commit_was_made(asked: Runner, event: str, time: str) -> None:
    date = {"GIT_COMMITTER_DATE": "@1700000000 +0000"}
    git = ["git", "-C", asked.workspace, "-c", "user.name=x", "-c", "user.email=x@y"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message", "x"], env=os.environ | date, check=True)
    asked.run({"mode": "pull"}, GITHUB_EVENT_NAME=event)
    assert f"committed: {time}" in Path(asked.environment["RECORD"]).read_text().splitlines()


def test_a_scheduled_job_hears_that_its_schedule_ends(on_host: Runner) -> None:
    """From launch.sh to the job summary, also if the run fails."""
    committed = {"GIT_COMMITTER_DATE": f"@{clock.time() - 55.5 * 86_400:.0f} +0000"}
    git = ["git", "-C", on_host.workspace, "-c", "user.name=x", "-c", "user.email=x@y"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message", "x"], env=os.environ | committed, check=True)
    job = on_host.run({"mode": "train", "preset": "none"}, GITHUB_EVENT_NAME="schedule")
    assert job.code == 2
    assert "> This repository has had no commit for 55 days." in job.summary
    assert "::warning title=echoself-action::This repository has had no commit for 55 days." in job.log


def test_launch_sh_has_no_syntax_that_bash_3_2_lacks() -> None:
    """macOS has bash 3.2 only. What it lacks: associative arrays, name references, mapfile, case conversion, and others."""
    newer = re.compile(
        r"\b(declare|local|typeset) -[aA]*[An]|\b(mapfile|readarray|coproc)\b|\$\{[^}]*(,,?|\^\^?|@[A-Z])\}|&>>|\|&|;;&|;&$"
        r"|wait -n|\[\[ -v |printf '?%\(|\$\{!?\w+\[-1\]|EPOCH|\{fd\}|=~ [^\"$]*\(",
        re.MULTILINE,
    )
    text = (ROOT / "launch.sh").read_text()
    assert not [match[0] for match in newer.finditer(text)]
    assert newer.search("[[ $tag =~ ^v(a|b)$ ]]"), "parentheses of a regular expression must come from a variable"


# --- for real, in .ci/container


@pytest.mark.container
def test_the_container_records_the_same_run_as_the_host(
    in_container: Runner, action: Path, tools: Path, tmp_path: Path
) -> None:
    """provenance.json and the history of a model that each published to its local Hub."""
    recorded = []
    on_host = Runner(tmp_path / "host", action, tools, {"runtime": "host"}, {"OMP_NUM_THREADS": "1"}, {})
    for runner in (on_host, in_container):
        runner.run_id = "77"
        job = runner.run(SMALL | {"mode": "cycle", "repo_id": "me/model", "hub": "hub"})
        assert job.outputs["deployed"] == "true", job.log
        show = ["git", "-c", "safe.directory=*", "--git-dir", runner.workspace / "hub/models/me/model.git", "show"]
        files = [
            subprocess.run([*show, f"main:{name}"], capture_output=True, check=True).stdout
            for name in ("provenance.json", "metrics/history.jsonl")
        ]
        history = {name: json.loads(files[1]).get(name) for name in ("repository", "commit", "run_url", "result")}
        recorded.append((json.loads(files[0])["run"], history))
    assert recorded[0] == recorded[1]
    run, history = recorded[1]
    assert run == {
        "repository": "someone/repo",
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "ref": "refs/heads/main",
        "workflow": "someone/repo/.github/workflows/nightly.yml@refs/heads/main",
        "event": "schedule",
        "run_id": "77",
        "run_attempt": "1",
        "run_url": "https://github.example/someone/repo/actions/runs/77",
    }
    assert history["run_url"] == run["run_url"]


@pytest.mark.container
def test_a_gpu_without_the_container_toolkit_means_a_venv(on_host: Runner, tmp_path: Path) -> None:
    if "nvidia" in subprocess.run(["docker", "info"], capture_output=True, text=True, check=True).stdout:
        pytest.skip("this engine has the NVIDIA Container Toolkit")
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    engine = {name: os.environ[name] for name in ("DOCKER_HOST", "DOCKER_CONFIG") if name in os.environ}
    job = on_host.run({"mode": "train", "seed": "x", "runtime": "auto"}, PATH=f"{tmp_path}:{PATH}", **engine)
    assert "runtime: venv, because this runner has a GPU, but Docker has no NVIDIA Container Toolkit" in job.log, job.log
    assert "seed" in job.summary


@pytest.mark.container
def test_an_image_for_another_architecture_is_refused_by_its_name(in_container: Runner) -> None:
    engine = subprocess.run(["docker", "version", "--format", "{{.Server.Arch}}"], capture_output=True, text=True, check=True)
    other = "amd64" if engine.stdout.strip() == "arm64" else "arm64"
    name = "localhost/echoself-other:1"
    subprocess.run(["docker", "import", "--platform", f"linux/{other}", "-", name], input=bytes(10240), check=True)
    job = in_container.run({"mode": "pull", "image": name})
    subprocess.run(["docker", "rmi", name], check=True, capture_output=True)
    assert job.code == 2
    assert f"{name} is for {other}" in job.log
    assert "exec format error" not in job.log


@pytest.mark.container
@pytest.mark.timeout(600)
def test_a_job_in_a_container_runs_in_a_venv(in_container: Runner, tmp_path: Path) -> None:
    """A container with Python and without Docker, then one with the socket of the host's engine, whose folders are others."""
    runner = in_container
    client = shutil.which("docker-client") or shutil.which("docker")  # .ci/container may have a script for docker
    assert client
    (runner.root / "tools").mkdir(exist_ok=True)
    runner.own()
    mounts = {"/__w": runner.root / "work", "/__t": runner.root / "tools", "/action": runner.action}
    if (wheels := os.environ.get("PIP_FIND_LINKS")) and Path(wheels).is_dir():
        mounts[wheels] = Path(wheels)
    job = {
        "ECHOSELF_INPUTS": json.dumps(with_settings(SMALL | {"mode": "train"}), indent=2),
        "HOME": "/tmp",  # noqa: S108
        "GITHUB_ACTIONS": "true",
        "GITHUB_OUTPUT": "/__w/_temp/output",
        "GITHUB_STEP_SUMMARY": "/__w/_temp/summary",
        "GITHUB_WORKSPACE": "/__w/repo/repo",
        "RUNNER_TEMP": "/__w/_temp",
        "RUNNER_TOOL_CACHE": "/__t",
    } | {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    (runner.temp / "output").touch()
    runner.own()

    def in_a_container_job(*options: str) -> str:
        command = ["docker", "run", "--rm", "--network", "host", "--workdir", "/__w/repo/repo", *options]
        command += [word for target, source in mounts.items() for word in ("--volume", f"{source}:{target}")]
        command += [word for name, value in job.items() for word in ("--env", f"{name}={value}")]
        command += ["--user", str(runner.user.get("user", os.getuid())), "--entrypoint", "bash"]
        ran = subprocess.run([*command, os.environ["ECHOSELF_IMAGE"], "/action/launch.sh"], capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    first = in_a_container_job()
    assert "runtime: venv, because this job has no docker command" in first
    assert "s  installed" in first
    assert parsed((runner.temp / "output").read_text())["step"] == "5"

    socket = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
    group = ("--group-add", str(Path(socket).stat().st_gid))
    second = in_a_container_job(
        *group, "--volume", f"{socket}:/var/run/docker.sock", "--volume", f"{Path(client).resolve()}:/usr/bin/docker"
    )
    assert "runtime: venv, because the Docker engine does not see the folders of this job" in second
    assert "reusing the venv /__t/echoself-action/" in second
