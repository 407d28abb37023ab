"""Runs a workflow as GitHub does, on this machine: events, needs, matrices, conditions, expressions, and real steps.

Scripts run in the shells that they name, and our action by its action.yml. The actions of others, and the programs of GitHub's
images that this machine lacks, are stand-ins, which do the same on this disk; inputs are checked against those that they have.
"""

import itertools
import json
import os
import shlex
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..github.server import GitHub
from .conftest import JOB_TOKEN, PATH, Job, Runner
from .expressions import as_text, evaluate, filled

PROGRAMS = Path(__file__).parent / "programs"
OUR_ACTION = "9cog/echoself-action@v1"
RUNNERS = ("ubuntu-latest", "ubuntu-24.04", "ubuntu-24.04-arm", "macos-latest", "self-hosted", "hf-jobs-")
# the inputs of each action at the commit that is used
ACTIONS = {
    "actions/checkout": "repository ref token ssh-key ssh-known-hosts ssh-strict ssh-user persist-credentials path clean "
    "filter sparse-checkout sparse-checkout-cone-mode fetch-depth fetch-tags show-progress lfs submodules set-safe-directory "
    "github-server-url",
    "actions/setup-python": "python-version python-version-file cache architecture check-latest token cache-dependency-path "
    "update-environment allow-prereleases freethreaded pip-version pip-install",
    "actions/upload-artifact": "name path if-no-files-found retention-days compression-level overwrite "
    "include-hidden-files archive",
    "actions/download-artifact": "name artifact-ids path pattern merge-multiple github-token repository run-id skip-decompress "
    "digest-mismatch",
    "actions/cache": "path key restore-keys upload-chunk-size enableCrossOsArchive fail-on-cache-miss lookup-only save-always",
}


@dataclass
class JobResult:
    """A job with one way of filling in its matrix. `actions` are the runs of our action."""

    name: str
    result: str = "success"
    outputs: dict[str, str] = field(default_factory=dict)
    log: str = ""
    summary: str = ""
    steps: list[str] = field(default_factory=list)  # those that ran
    actions: list[Job] = field(default_factory=list)
    workspace: Path = Path()


@dataclass
class World:
    """What a workflow finds: a repository, a machine, secrets and variables, and the settings that make models small.

    `place` is an empty folder. `machine` gives the environment of a job by its permissions.
    """

    place: Path
    action: Path
    tools: Path
    repository: Path
    machine: "Machine"
    small: Mapping[str, str]
    secrets: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    runtime: str = "host"

    def run(
        self, workflow: Path, event_name: str, event: Mapping[str, Any] | None = None, inputs: Mapping[str, Any] | None = None
    ) -> dict[str, list[JobResult]]:
        """Run a workflow; returns the results of each job, one for each way of filling in its matrix."""
        body = yaml.safe_load(workflow.read_text(encoding="utf-8"))
        on = body[True]  # YAML 1.1 reads the key `on` as true
        assert event_name in ([on] if isinstance(on, str) else on), f"{workflow.name} is not triggered by {event_name}"
        declared = ((on.get("workflow_dispatch") or {}).get("inputs") or {}) if isinstance(on, dict) else {}
        given = {name: (inputs or {}).get(name, one.get("default", "")) for name, one in declared.items()}
        github = {
            "event_name": event_name,
            "event": dict(event or {}) | ({"inputs": given} if event_name == "workflow_dispatch" else {}),
            "repository": "me/repo",
            "repository_owner": "me",
            "ref": "refs/heads/main",
            "ref_name": "main",
            "run_id": "4711",
            "workflow": body["name"],
            "token": JOB_TOKEN,
            "sha": _git(self.repository, "rev-parse", "HEAD"),
        }
        contexts = {
            "github": github,
            "inputs": given if event_name == "workflow_dispatch" else {},
            "secrets": {**self.secrets, "GITHUB_TOKEN": JOB_TOKEN},
            "vars": dict(self.variables),
            "env": {},
            "permissions": body["permissions"],
        }
        contexts["env"] = filled(body.get("env", {}), contexts)
        results: dict[str, list[JobResult]] = {}
        for name in _in_order(body["jobs"]):
            results[name] = self._job(workflow, name, body["jobs"][name], contexts, results)
        return results

    def _job(
        self,
        workflow: Path,
        name: str,
        body: Mapping[str, Any],
        contexts: Mapping[str, Any],
        before: Mapping[str, list[JobResult]],
    ) -> list[JobResult]:
        needed = {need: before[need] for need in _needs(body)}
        contexts = contexts | {
            "needs": {
                need: {"result": _joined(found), "outputs": {key: value for one in found for key, value in one.outputs.items()}}
                for need, found in needed.items()
            }
        }
        fine = all(_joined(found) == "success" for found in needed.values())
        if not _holds(body.get("if"), fine, contexts):
            return [JobResult(name, "skipped")]
        legs = [
            _Leg(self, workflow, f"{name}-{number}", body, contexts | {"matrix": matrix})
            for number, matrix in enumerate(_matrix(filled(body.get("strategy", {}).get("matrix", {}), contexts)))
        ]
        threads = [threading.Thread(target=leg.run, daemon=True) for leg in legs]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            for thread in threads:
                thread.join(0.05)
            # fail-fast, which GitHub has by default: processes of one job may wait for those of another for ever
            if any(leg.has_failed and not thread.is_alive() for leg, thread in zip(legs, threads, strict=True)):
                for leg in legs:
                    leg.cancel()
        for leg in legs:
            if leg.error:
                raise leg.error
        return [leg.result for leg in legs]


class Machine:
    """The environment that a job of a workflow has, by its permissions: the services of GitHub and of the Hub."""

    def __init__(self, environment: Mapping[str, str], id_token: Mapping[str, str], github: GitHub) -> None:
        self.environment_of_jobs, self._id_token, self._github = dict(environment), dict(id_token), github

    def environment(self, permissions: Mapping[str, str]) -> dict[str, str]:
        """Also makes GitHub refuse what the permissions do not allow."""
        for permission, endpoints in (("pull-requests", ("comment", "change")), ("actions", ("enable",))):
            for endpoint in endpoints:
                self._github.refuse.pop(endpoint, None)
                if permissions.get(permission) != "write":
                    self._github.refuse[endpoint] = (403, {})
        return self.environment_of_jobs | (self._id_token if permissions.get("id-token") == "write" else {})


class _Leg:
    """One job on a runner of its own."""

    def __init__(self, world: World, workflow: Path, name: str, body: Mapping[str, Any], contexts: Mapping[str, Any]) -> None:
        self.world, self.body = world, body
        self.result = JobResult(name)
        self.error: BaseException | None = None
        self._job: Job | None = None  # the script that is running
        labels = filled(body["runs-on"], contexts)
        for label in [labels] if isinstance(labels, str) else labels[:1]:
            assert label.startswith(RUNNERS), f"{workflow.name}: there is no runner {label}"
        assert body["timeout-minutes"]
        self.permissions = body.get("permissions", contexts["permissions"])
        environment = world.machine.environment(self.permissions) | {
            "GITHUB_EVENT_NAME": contexts["github"]["event_name"],
            "GITHUB_REPOSITORY": contexts["github"]["repository"],
            "GITHUB_SHA": contexts["github"]["sha"],
            "GITHUB_WORKFLOW": contexts["github"]["workflow"],
            "GITHUB_WORKFLOW_REF": f"me/repo/.github/workflows/{workflow.name}@refs/heads/main",
            "GITHUB_REF": contexts["github"]["ref"],
        }
        self.runner = Runner(
            world.place / name,
            world.action,
            world.tools,
            {"runtime": world.runtime},
            environment,
            {},
            run_id=contexts["github"]["run_id"],
        )
        (self.runner.workspace / "text.md").unlink()
        (self.runner.temp / "_github_workflow" / "event.json").write_text(json.dumps(contexts["github"]["event"]))
        self.result.workspace = self.runner.workspace
        self.contexts = dict(contexts) | {"steps": {}, "runner": {"temp": str(self.runner.temp), "os": "Linux"}}
        self.contexts["env"] = contexts["env"] | filled(body.get("env", {}), self.contexts)

    @property
    def has_failed(self) -> bool:
        return self.error is not None or self.result.result == "failure"

    def cancel(self) -> None:
        """End its script, if one is running."""
        process = self._job and self._job.process
        if process and process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def run(self) -> None:
        try:
            for step in self.body["steps"]:
                self._step(step)
            self.result.outputs = filled(self.body.get("outputs", {}), self.contexts)
        except BaseException as error:  # raised in the thread that waits for this one
            self.error = error

    def _step(self, step: Mapping[str, Any]) -> None:
        fine = self.result.result == "success"
        if not _holds(step.get("if"), fine, self.contexts):
            return
        self.result.steps.append(step.get("name") or step.get("id") or step.get("uses") or step["run"].splitlines()[0])
        environment = {
            name: as_text(value) for name, value in (self.contexts["env"] | filled(step.get("env", {}), self.contexts)).items()
        }
        given = {name: as_text(value) for name, value in filled(step.get("with", {}), self.contexts).items()}
        outputs: dict[str, str] = {}
        if "run" in step:
            self._job = job = Job(log_file=self.runner.root / "log-of-scripts")
            code, outputs = self.runner._step(job, self._script(step), environment)
            self.result.log += f"\n# {step['run']}\n{job.raw_log}"
            self.result.summary += job.summary
        elif step["uses"] == OUR_ACTION:
            job = self.runner.start_as_written(with_settings(given, self.world.small), **environment).end(250)
            assert not job.warning, f"{step['uses']}: {job.warning}"
            self.result.actions.append(job)
            self.result.log += job.log
            self.result.summary += job.summary
            code, outputs = job.code, job.outputs
        else:
            code = self._stand_in(step["uses"].partition("@")[0], given)
        if code and not step.get("continue-on-error"):
            self.result.result = "failure"
        self.contexts["steps"][step.get("id")] = {"outputs": outputs, "outcome": "failure" if code else "success"}

    def _script(self, step: Mapping[str, Any]) -> str:
        assert "${{" not in step["run"], "a script takes values from its environment"
        if step.get("shell", "bash") == "bash":
            return str(step["run"])
        assert step["shell"] == "python"
        (script := self.runner.temp / "script.py").write_text(step["run"])
        return f"exec python {shlex.quote(str(script))}"

    def _stand_in(self, action: str, given: dict[str, str]) -> int:
        """Do what another action does; returns its exit code."""
        unknown = given.keys() - set(ACTIONS[action].split())
        assert not unknown, f"{action} has no inputs {unknown}"
        workspace, artifacts = self.runner.workspace, self.world.place / "artifacts"
        match action:
            case "actions/checkout":
                assert self.permissions.get("contents") in ("read", "write"), "a checkout reads the repository"
                _git(workspace, "init", "-q")
                _git(workspace, "fetch", "-q", "--depth", "1", f"file://{self.world.repository}", "HEAD")
                _git(workspace, "checkout", "-q", "FETCH_HEAD")
            case "actions/upload-artifact":
                return upload(workspace, given, artifacts)
            case "actions/download-artifact":
                shutil.copytree(artifacts / given["name"], workspace / given.get("path", "."), dirs_exist_ok=True)
            case "actions/cache":
                kept = self.world.place / "cache" / given["key"].replace("/", "_")
                if kept.exists():
                    shutil.copytree(kept, workspace / given["path"], dirs_exist_ok=True)
            case "actions/setup-python":
                assert given["python-version"]
        return 0


def with_settings(given: Mapping[str, str], small: Mapping[str, str]) -> dict[str, str]:
    """The inputs of our action, but with a small model and few steps."""
    changed = {name: small.get(name, value) for name, value in given.items()}
    settings = yaml.safe_load(given.get("settings") or "{}")
    settings |= {name: value for name, value in small.items() if name not in given}
    return changed | {"settings": yaml.safe_dump(settings)}


def programs(path: str = PATH) -> str:
    """A PATH with the stand-ins for programs of GitHub's images before all others."""
    return f"{PROGRAMS}{os.pathsep}{path}"


def upload(workspace: Path, given: Mapping[str, str], artifacts: Path) -> int:
    """What actions/upload-artifact does; returns its exit code. An artifact has no hidden files, modes or empty folders."""
    path, target = workspace / given["path"], artifacts / given["name"]
    assert not target.exists(), f"an artifact {given['name']} exists"
    base = path if path.is_dir() else path.parent
    for file in path.rglob("*") if path.is_dir() else [path]:
        name = file.relative_to(base)
        if file.is_file() and not any(part.startswith(".") for part in name.parts):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target / name)
    return int(not target.exists() and given.get("if-no-files-found") == "error")


def _in_order(jobs: Mapping[str, Any]) -> Iterator[str]:
    """The names of the jobs, each after those that it needs."""
    left = dict(jobs)
    while left:
        ready = [name for name, body in left.items() if not left.keys() & set(_needs(body))]
        assert ready, f"jobs that need each other: {list(left)}"
        for name in ready:
            del left[name]
        yield from ready


def _needs(body: Mapping[str, Any]) -> list[str]:
    needs = body.get("needs", [])
    return [needs] if isinstance(needs, str) else needs


def _joined(legs: list[JobResult]) -> str:
    results = {leg.result for leg in legs}
    return next((result for result in ("failure", "skipped") if result in results), "success")


def _holds(condition: object, fine: bool, contexts: Mapping[str, Any]) -> bool:
    """Whether an `if` holds; without a status function, only as long as nothing has failed."""
    status = {"always": lambda: True, "success": lambda: fine, "failure": lambda: not fine, "cancelled": lambda: False}
    text = as_text(condition if condition is not None else True).strip()
    text = text.removeprefix("${{").removesuffix("}}")
    value = bool(evaluate(text, {**contexts, "functions": status}))
    return value and (fine or any(f"{name}()" in text for name in status))


def _matrix(declared: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The ways of filling in a matrix. `exclude`, and `include` beside lists, are not used by an example."""
    lists = {name: values for name, values in declared.items() if name != "include"}
    assert "exclude" not in lists
    assert not (lists and "include" in declared)
    if "include" in declared:
        return [dict(one) for one in declared["include"]]
    return [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]


def _git(folder: Path, *words: str) -> str:
    who = [
        "-c",
        "user.name=me",
        "-c",
        "user.email=me@example.com",
        "-c",
        "init.defaultBranch=main",
        "-c",
        "advice.detachedHead=false",
    ]
    ended = subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True)
    return ended.stdout.strip()


def make_repository(folder: Path, files: Mapping[str, str]) -> Path:
    """A git repository with one commit."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    _git(folder, "init", "-q")
    _git(folder, "add", ".")
    _git(folder, "commit", "-q", "-m", "first")
    return folder
