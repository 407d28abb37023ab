"""What GitHub runs of ours, and what we tell users to run: inputs and outputs that exist, the fewest rights, pinned actions."""

import itertools
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from echoself_action.config.inputs import ACTION_INPUTS, DEFAULT_CONFIG
from echoself_action.config.load import ACTION_VARIABLE, load_models
from echoself_action.config.outputs import Outputs

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
EXAMPLES = sorted((ROOT / "examples").glob("*.yml"))
MODELS_FILE = ROOT / "examples/models/echoself.yml"  # what a matrix is made from
MODELS = yaml.safe_load(MODELS_FILE.read_text(encoding="utf-8"))["models"]
OUR_ACTION = re.compile(r"(\./|9cog/echoself-action@v1)")
OUTPUTS = {output.name for output in fields(Outputs)}

# Every job that may do more than read this repository. A new line here is a decision.
RIGHTS = {
    ("image.yml", "image"): {"packages": "write", "id-token": "write", "attestations": "write"},
    ("image.yml", "index"): {"packages": "write", "id-token": "write", "attestations": "write"},
    ("release.yml", "image"): {"packages": "write", "id-token": "write", "attestations": "write"},
    ("release.yml", "release"): {"contents": "write"},
    ("deploy.yml", "deploy"): {"actions": "read"},
    ("cycle-keyless.yml", "cycle"): {"id-token": "write"},
    ("keep-schedule-alive.yml", "enable"): {"actions": "write"},
    ("train.yml", "train"): {"pull-requests": "write"},
}


@dataclass(frozen=True)
class Job:
    """A job of a workflow, with one way of filling in its matrix."""

    path: Path
    name: str
    workflow: dict[Any, Any]
    body: dict[str, Any]
    matrix: dict[str, Any]

    @property
    def steps(self) -> list[dict[str, Any]]:
        return self.body.get("steps", [])

    @property
    def events(self) -> set[str]:
        on = self.workflow[True]  # YAML 1.1 reads the key `on` as true
        return {on} if isinstance(on, str) else set(on)


def jobs() -> Iterator[Job]:
    for path in [*WORKFLOWS, *EXAMPLES]:
        workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
        for name, body in workflow["jobs"].items():
            declared = body.get("strategy", {}).get("matrix", {})
            from_file = [{"model": model} for model in MODELS] if "model" in declared else [{}]
            for matrix in declared.get("include", from_file):
                yield Job(path, name, workflow, body, matrix)


JOBS = list(jobs())
each_job = pytest.mark.parametrize("job", JOBS, ids=lambda job: f"{job.path.stem}-{job.name}-{job.matrix.get('model', '')}")
each_file = pytest.mark.parametrize("path", [*WORKFLOWS, *EXAMPLES], ids=lambda path: path.name)


def test_there_is_something_to_look_at() -> None:
    assert {path.stem for path in WORKFLOWS} == {"test", "self-test", "image", "release", "cycle", "deploy"}
    assert len([step for job in JOBS for step in job.steps if is_ours(step)]) >= 10


@each_job
def test_what_the_action_is_given_is_accepted(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if job.matrix.get("model") in MODELS:
        (tmp_path / ".github").mkdir()
        shutil.copy(MODELS_FILE, tmp_path / DEFAULT_CONFIG)
    for step in filter(is_ours, job.steps):
        given = {name: filled(name, value, job.matrix) for name, value in step["with"].items()}
        assert set(given) <= set(ACTION_INPUTS)
        monkeypatch.setenv(ACTION_VARIABLE, json.dumps(given))
        load_models({})


@each_job
def test_outputs_that_are_read_exist(job: Job) -> None:
    ours = {step["id"] for step in job.steps if "id" in step and is_ours(step)}
    text = json.dumps(job.body)
    for step, output in re.findall(r"steps\.([\w-]+)\.outputs\.(\w+)", text):
        if step in ours:
            assert output in OUTPUTS
        else:
            script = next(body["run"] for body in job.steps if body.get("id") == step)
            legs = [leg for leg in JOBS if (leg.path, leg.name) == (job.path, job.name)]
            assert any(f'"{output}=' in with_environment(script, leg) for leg in legs)
    for needed, output in re.findall(r"needs\.([\w-]+)\.outputs\.(\w+)", text):
        needs = job.body["needs"]
        assert needed in ([needs] if isinstance(needs, str) else needs)
        assert output in job.workflow["jobs"][needed]["outputs"]


@each_job
def test_a_job_has_no_more_rights_than_it_is_known_to_need(job: Job) -> None:
    assert job.workflow["permissions"] == {}
    rights = dict(job.body["permissions"])
    if rights.get("contents") == "read":
        del rights["contents"]
        assert "uses" in job.body or any("checkout" in step.get("uses", "") for step in job.steps)
    assert rights == RIGHTS.get((job.path.name, job.name), {})


@each_job
def test_a_pull_request_reaches_no_secret_and_no_runner_of_ours(job: Job) -> None:
    if "pull_request" in job.events:
        assert "secrets." not in json.dumps(job.body)
        assert "environment" not in job.body
        assert "self-hosted" not in job.body["runs-on"]
    assert "pull_request_target" not in job.events


@each_job
def test_a_job_that_publishes_is_not_cut_off_by_the_next(job: Job) -> None:
    publishes = any(step["with"]["mode"] in ("deploy", "cycle") for step in job.steps if is_ours(step))
    if publishes and "pull_request" not in job.events:  # what is published there goes to a folder
        assert (job.workflow.get("concurrency") or job.body["concurrency"])["cancel-in-progress"] is False


@each_job
def test_keyless_jobs_name_the_repo_that_they_publish(job: Job) -> None:
    if job.body["permissions"].get("id-token") and any(map(is_ours, job.steps)):
        step = next(filter(is_ours, job.steps))
        assert job.body["env"]["HF_OIDC_RESOURCE"] == step["with"]["repo_id"]
        assert "hf_token" not in step["with"]


@each_job
def test_scripts_take_values_from_the_environment_and_pass_shellcheck(job: Job) -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    for step in job.steps:
        script = step.get("run", "")
        assert "${{" not in script
        if script and step.get("shell") != "python":
            ended = subprocess.run([shellcheck, "-s", "bash", "-"], input=script, text=True, check=False, capture_output=True)
            assert ended.returncode == 0, ended.stdout


@each_file
def test_actions_are_pinned_by_commit_with_their_version(path: Path) -> None:
    for used in re.findall(r"uses: (.*)", path.read_text(encoding="utf-8")):
        assert OUR_ACTION.match(used) or re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", used), used


def test_every_use_of_an_action_is_of_the_same_commit() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in [*WORKFLOWS, *EXAMPLES])
    pins = set(re.findall(r"uses: ([\w-]+/[\w-]+)@([0-9a-f]{40})", text))
    assert len(pins) == len({action for action, _ in pins})


def test_examples_install_what_the_package_is_tested_with() -> None:
    pinned = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    installed = [word for path in EXAMPLES for word in re.findall(r"[a-z]+==[\d.]+", path.read_text(encoding="utf-8"))]
    assert installed
    assert all(f'"{requirement}"' in pinned for requirement in installed)


def test_the_run_that_others_start_takes_their_artifact_as_data_only() -> None:
    (job,) = [job for job in JOBS if "workflow_run" in job.events]
    for guard in (
        "github.event.workflow_run.conclusion == 'success'",
        "github.event.workflow_run.event == 'push'",
        "github.event.workflow_run.head_repository.full_name == github.repository",
    ):
        assert guard in job.body["if"]
    assert job.workflow[True]["workflow_run"]["branches"] == ["main"]
    checkout, download, deploy = job.steps
    assert checkout["with"] == {"persist-credentials": False}, "the code is the default branch's"
    assert download["with"]["run-id"] == "${{ github.event.workflow_run.id }}"
    assert download["with"]["path"] == deploy["with"]["output_dir"], "a folder of its own"
    assert not any("run" in step for step in job.steps)


@pytest.mark.parametrize(("tag", "on_main", "code"), [("v1.2.3", True, 0), ("v1.2.4", True, 1), ("v1.2.3", False, 1)])
def test_a_release_is_the_version_of_the_package_on_main(tag: str, on_main: bool, code: int, tmp_path: Path) -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8"))
    (script,) = [step["run"] for step in workflow["jobs"]["version"]["steps"] if step.get("id") == "version"]
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\nversion = "1.2.3"\n')

    def git(*words: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    git("update-ref", "refs/remotes/origin/main", "HEAD")
    if not on_main:
        git("commit", "-qm", "elsewhere", "--allow-empty")
    environment = {"GITHUB_REF_NAME": tag, "GITHUB_SHA": git("rev-parse", "HEAD"), "GITHUB_OUTPUT": str(tmp_path / "output")}
    command = ["env", *(f"{name}={value}" for name, value in environment.items()), "bash", "-eo", "pipefail", "-c", script]
    ended = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert ended.returncode == code, ended.stdout
    assert not code or ended.stdout.startswith("::error")
    assert code or (tmp_path / "output").read_text() == "version=1.2.3\n"


def with_environment(script: str, job: Job) -> str:
    """A script with the values of the job's `env` that are in its matrix."""
    for name, value in job.body.get("env", {}).items():
        if found := re.fullmatch(r"\$\{\{ matrix\.(\w+) \}\}", value):
            script = re.sub(rf"\$({name}\b|\{{{name}\}})", job.matrix[found[1]], script)
    return script


def is_ours(step: dict[str, Any]) -> bool:
    return bool(OUR_ACTION.fullmatch(step.get("uses", "")))


def filled(name: str, value: object, matrix: dict[str, Any]) -> object:
    """A value of `with:` as the action gets it, with something likely for what only GitHub knows."""
    text = re.sub(r"\$\{\{ matrix\.(\w+) \}\}", lambda found: str(matrix[found[1]]), str(value))
    if name == "settings":
        return re.sub(r"\$\{\{ .*? \}\}", "7", text)
    return {"repo_id": "owner/name", "hf_token": "hf_x"}.get(name, "x") if "${{" in text else text


def test_packages_that_are_pinned_in_both_distributions_have_one_version() -> None:
    """One environment gets both: two versions of a package could not be installed."""
    versions: dict[str, set[str]] = {}
    for file in (ROOT / "pyproject.toml", ROOT / "packages/localhub/pyproject.toml"):
        project = tomllib.loads(file.read_text())["project"]
        for requirement in itertools.chain(project["dependencies"], *project["optional-dependencies"].values()):
            name, equals, version = requirement.partition("==")
            if equals:
                versions.setdefault(name, set()).add(version)
    assert {name for name, found in versions.items() if len(found) > 1} == set()
