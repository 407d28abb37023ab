"""The jobs of self-test.yml, run here: each in a workspace of its own, with artifacts that lose what GitHub's lose.

The action runs with `runtime: host`, so the steps that make and load its image are left out.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from .doors.conftest import Runner, action, root, tools  # noqa: F401  # fixtures
from .doors.expressions import as_text, filled
from .doors.workflows import upload

ROOT = Path(__file__).parent.parent
IMAGE = "self-test-image"


def test_train_deploy_and_pull_over_artifacts(action: Path, tools: Path, root: Path, tmp_path: Path) -> None:  # noqa: F811
    workflow = yaml.safe_load((ROOT / ".github/workflows/self-test.yml").read_text(encoding="utf-8"))
    needs: dict[str, Any] = {}
    for name in ("train", "deploy", "pull"):
        runner = Runner(root / name, action, tools, {"runtime": "host"}, {"OMP_NUM_THREADS": "1"}, {})
        contexts = {"needs": needs, "steps": {}, "env": workflow["env"], "runner": {"temp": str(runner.temp)}}
        for step in workflow["jobs"][name]["steps"]:
            contexts["steps"][step.get("id")] = {"outputs": take(step, runner, tmp_path, contexts)}
        outputs = workflow["jobs"][name].get("outputs", {})
        needs[name] = {"outputs": {output: filled(value, contexts) for output, value in outputs.items()}}
    assert needs["train"]["outputs"]["step"] == "40"
    assert len(needs["deploy"]["outputs"]["commit_sha"]) == 40


def take(step: dict[str, Any], runner: Runner, artifacts: Path, contexts: dict[str, Any]) -> dict[str, str]:
    """Take one step; returns its outputs."""
    given = {name: as_text(filled(value, contexts)) for name, value in step.get("with", {}).items()}
    match step.get("uses", "run").partition("@")[0]:
        case "actions/checkout":
            check_out(runner.workspace)
        case "actions/upload-artifact":
            assert upload(runner.workspace, given, artifacts) == 0
        case "actions/download-artifact" if given["name"] != IMAGE:
            shutil.copytree(artifacts / given["name"], runner.workspace / given.get("path", "."), dirs_exist_ok=True)
        case "./":
            job = runner.run({name: value for name, value in given.items() if name != "image"})
            assert job.code == 0, job.log
            return job.outputs
        case "run" if not step["run"].startswith("docker load"):
            environment = os.environ | {name: as_text(filled(value, contexts)) for name, value in step.get("env", {}).items()}
            command = ["bash", "-eo", "pipefail", "-c", step["run"]]
            ended = subprocess.run(command, cwd=runner.workspace, env=environment, capture_output=True, text=True, check=False)
            assert ended.returncode == 0, ended.stdout + ended.stderr
    return {}


def check_out(workspace: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True
    ).stdout.decode()
    for name in (name for name in listed.split("\0") if (ROOT / name).is_file()):
        (workspace / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, workspace / name)
