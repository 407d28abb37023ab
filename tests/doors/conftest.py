"""A minimal runner of composite actions that runs the real action.yml: with `runtime: host`, and under `-m container` in
containers, as an unprivileged user (.ci/container builds the image and starts an engine)."""

import json
import os
import re
import shutil
import signal
import subprocess
import sysconfig
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from echoself_action.config.inputs import ACTION_INPUTS
from host_runtime import contents

ROOT = Path(__file__).parents[2]
ACTION_FILES = (
    "action.yml",
    "launch.sh",
    "install.sh",
    "host_runtime.py",
    "entrypoint.py",
    "Dockerfile",
    ".dockerignore",
    "pyproject.toml",
    "hatch_build.py",
    "README.md",
    "LICENSE",
)
JOB_TOKEN = "ghs_token-of-the-job"
USER = 1001  # of the job, if the tests run as root: no files may belong to another user
PATH = f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"
TEXT = "".join(
    f"Paragraph {number} of a text to learn from, which is long enough to be cut into passages.\n\n" for number in range(900)
)
SMALL = {
    "preset": "ci",
    "data": "text.md",
    "tokenizer": "bytes",
    "n_layer": "1",
    "n_head": "1",
    "n_embd": "8",
    "block_size": "16",
    "max_iters": "5",
    "eval_interval": "5",
    "log_interval": "5",
    "device": "cpu",
}
ENDLESS = SMALL | {"max_iters": "10000000", "eval_interval": "10000000", "checkpoint_interval": "10000000", "max_minutes": "0"}


@dataclass
class Job:
    """A job whose only step uses the action. `outputs` and `summary` are set when it has ended."""

    process: subprocess.Popen[bytes] | None = None
    log_file: Path = Path()
    code: int = 0
    warning: str = ""  # of the runner itself
    outputs: dict[str, str] = field(default_factory=dict)
    summary: str = ""
    thread: threading.Thread | None = None

    @property
    def raw_log(self) -> str:
        return self.log_file.read_text(errors="replace")

    @property
    def log(self) -> str:
        """The log as the runner shows it, without the add-mask commands."""
        return "\n".join(line for line in self.raw_log.split("\n") if not line.lstrip().startswith("::add-mask"))

    @property
    def commands(self) -> list[str]:
        """The names of workflow commands in the log: `::name ...::` at the start of a line, or `##[name` anywhere."""
        lines = re.split(r"[\r\n]+", self.raw_log)
        found = [re.match(r"\s*::([\w-]+).*?::", line) or re.search(r"##\[([\w-]+)", line) for line in lines]
        return [match[1] for match in found if match and match[1] != "add-mask"]

    @property
    def masks(self) -> int:
        return len(re.findall(r"^\s*::add-mask ?::", self.raw_log, re.MULTILINE))

    def wait_for(self, text: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while text not in self.raw_log:
            assert time.monotonic() < end, self.raw_log
            assert self.thread
            assert self.thread.is_alive(), self.raw_log
            time.sleep(0.05)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the step's entry process only, as a runner does on cancel."""
        assert self.process
        self.process.send_signal(number)

    def end(self, seconds: float = 120) -> "Job":
        assert self.thread
        self.thread.join(seconds)
        if self.thread.is_alive():
            assert self.process
            os.killpg(self.process.pid, signal.SIGKILL)
            pytest.fail(self.raw_log)
        return self


@dataclass
class Runner:
    """A runner's folders on disk. `always` are inputs of every job, `environment` what its machine adds to every step."""

    root: Path
    action: Path
    tools: Path
    always: dict[str, str]
    environment: dict[str, str]
    user: dict[str, Any]
    repository: str = ""
    ref: str = ""
    run_id: str = field(default_factory=lambda: str(uuid.uuid4().int)[:11])

    def __post_init__(self) -> None:
        for folder in (self.workspace, self.temp / "_runner_file_commands", self.temp / "_github_workflow", self.root / "home"):
            folder.mkdir(parents=True)
        (self.workspace / "text.md").write_text(TEXT)
        (self.temp / "_github_workflow" / "event.json").write_text("{}")
        self.own()

    @property
    def workspace(self) -> Path:
        return self.root / "work" / "repo" / "repo"

    @property
    def temp(self) -> Path:
        return self.root / "work" / "_temp"

    def own(self) -> None:
        if self.user:
            subprocess.run(["chown", "-R", f"{USER}:{USER}", self.root], check=True)

    def run(self, inputs: dict[str, str], **environment: str) -> Job:
        return self.start(inputs, **environment).end()

    def start(self, inputs: dict[str, str], **environment: str) -> Job:
        """Start a job. What is not an input of the action becomes a line of its input `settings`."""
        return self.start_as_written(with_settings(inputs), **environment)

    def start_as_written(self, inputs: dict[str, str], **environment: str) -> Job:
        job = Job(log_file=self.root / f"log-{uuid.uuid4()}")
        job.log_file.touch()
        job.thread = threading.Thread(target=self._execute, args=(job, self.always | inputs, environment), daemon=True)
        job.thread.start()
        return job

    def _execute(self, job: Job, given: dict[str, str], environment: dict[str, str]) -> None:
        action = yaml.safe_load((self.action / "action.yml").read_text())
        # as the runner does it: all that is under `with:`, and the defaults of what is not
        defaults = {name: declared.get("default", "") for name, declared in action["inputs"].items() if name not in given}
        contexts: dict[str, Any] = {
            "inputs": given | defaults,
            "github": {"action_repository": self.repository, "action_ref": self.ref, "token": JOB_TOKEN},
            "steps": {},
        }
        if unknown := given.keys() - action["inputs"].keys():
            job.warning = f"Unexpected input(s) {', '.join(map(repr, sorted(unknown)))}"
        for step in action["runs"]["steps"]:
            if job.code and step.get("if") != "always()":
                continue
            assert step["shell"] == "bash"
            variables = {name: evaluated(value, contexts) for name, value in step.get("env", {}).items()}
            code, outputs = self._step(job, evaluated(step["run"], contexts), environment | variables)
            job.code = job.code or code
            contexts["steps"][step.get("id", "")] = {"outputs": outputs}
        job.outputs = {name: evaluated(output["value"], contexts) for name, output in action["outputs"].items()}

    def _step(self, job: Job, script: str, environment: dict[str, str]) -> tuple[int, dict[str, str]]:
        name = str(uuid.uuid4())
        commands = self.temp / "_runner_file_commands"
        files = {kind: commands / f"{kind}_{name}" for kind in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "GITHUB_ENV")}
        (script_file := self.temp / f"{name}.sh").write_text(script)
        for path in files.values():
            path.touch()
        self.own()
        settings = {
            "PATH": PATH,
            "HOME": str(self.root / "home"),
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_ACTION_PATH": str(self.action),
            "GITHUB_EVENT_NAME": "schedule",
            "GITHUB_EVENT_PATH": str(self.temp / "_github_workflow" / "event.json"),
            "GITHUB_JOB": "train",
            "GITHUB_REF": "refs/heads/main",
            "GITHUB_REF_NAME": "main",
            "GITHUB_REPOSITORY": "someone/repo",
            "GITHUB_RUN_ATTEMPT": "1",
            "GITHUB_RUN_ID": self.run_id,
            "GITHUB_SERVER_URL": "https://github.example",
            "GITHUB_SHA": "0123456789abcdef0123456789abcdef01234567",
            "GITHUB_WORKFLOW": "nightly",
            "GITHUB_WORKFLOW_REF": "someone/repo/.github/workflows/nightly.yml@refs/heads/main",
            "GITHUB_WORKSPACE": str(self.workspace),
            "RUNNER_ARCH": "X64",
            "RUNNER_ENVIRONMENT": "github-hosted",
            "RUNNER_NAME": "a runner",
            "RUNNER_OS": "Linux",
            "RUNNER_TEMP": str(self.temp),
            "RUNNER_TOOL_CACHE": str(self.tools),
            **{kind: str(path) for kind, path in files.items()},
        }
        with job.log_file.open("ab") as log:
            job.process = subprocess.Popen(
                ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", str(script_file)],
                cwd=self.workspace,
                env=settings | self.environment | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that a failed test can kill the process group
                **self.user,
            )
            code = job.process.wait()
        job.summary += files["GITHUB_STEP_SUMMARY"].read_text()
        assert not files["GITHUB_ENV"].read_text()
        return code if code >= 0 else 128 - code, parsed(files["GITHUB_OUTPUT"].read_text())


def with_settings(values: dict[str, str]) -> dict[str, str]:
    """Inputs of the action: settings are moved into `settings`."""
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in values.items() if name not in ACTION_INPUTS]
    inputs = {name: value for name, value in values.items() if name in ACTION_INPUTS}
    return inputs | ({"settings": "\n".join([*filter(None, [values.get("settings")]), *lines])} if lines else {})


def evaluated(text: str, contexts: dict[str, Any]) -> str:
    """`text` with its expressions evaluated. Supports only the expressions of action.yml."""

    def value(match: re.Match[str]) -> str:
        expression = match[1]
        if expression == "toJSON(inputs)":
            return json.dumps(contexts["inputs"], indent=2, ensure_ascii=False)
        context, *names = expression.split(".")
        found: Any = contexts[context]
        for name in names:
            found = found.get(name, {})
        return found or ""  # a missing value is null, which is rendered as an empty string

    return re.sub(r"\$\{\{ *(.+?) *\}\}", value, text)


def parsed(text: str) -> dict[str, str]:
    """Parses the file of a workflow command: `name=value`, or `name<<delimiter`, lines, and the delimiter."""
    found, lines = {}, iter(text.split("\n"))
    for line in lines:
        heredoc = re.match(r"([^=]+?)<<(.+)", line)
        if heredoc:
            value = []
            for inner in lines:
                if inner == heredoc[2]:
                    break
                value.append(inner)
            else:
                raise AssertionError(f"the delimiter of {heredoc[1]} never comes")
            found[heredoc[1]] = "\n".join(value)
        elif line:
            name, _, found_value = line.partition("=")
            found[name] = found_value
    return found


# A client that writes down what it is asked, for what no machine of ours has: a published image, and a GPU. Without variables
# that break something, Docker works and the image of the release is published.
RECORDER = """#!/bin/sh
echo "$*" >>"$RECORD"
case $1 in
  version) [ -z "${NO_ENGINE-}" ] || { echo "Cannot connect to the Docker daemon"; exit 1; }
    case $* in *Arch*) echo amd64 ;; *) echo linux ;; esac ;;
  import) cat >/dev/null; echo sha256:empty ;;
  create) [ -z "${ELSEWHERE-}" ] ;;
  cp) cat "$RUNNER_TEMP/echoself-probe/file" ;;
  image) [ "$3" != --format ] || echo "${IMAGE_ARCHITECTURE-amd64}" ;;
  pull) while [ -n "${UNTIL-}" ] && [ ! -e "$UNTIL" ]; do sleep 0.05; done; [ -z "${UNPUBLISHED-}" ] ;;
  build) [ -z "${NO_BUILD-}" ] || exit 1; while [ "$1" != --iidfile ]; do shift; done; echo sha256:built >"$2" ;;
  container) exit 1 ;;
  run) case $* in
      *sha256:empty*) [ -z "${NO_TOOLKIT-}" ] || echo 'could not select device driver'; exit 125 ;;
      *nvidia-smi*) [ -z "${NO_DEVICE-}" ] || { echo "nvidia-smi: no such file"; exit 127; } ;;
      *) echo "token: ${GITHUB_TOKEN-none}" >>"$RECORD"; echo "committed: ${ECHOSELF_COMMIT_TIME-}" >>"$RECORD" ;;
    esac ;;
esac
"""


def recorded(runner: Runner) -> list[list[str]]:
    """The commands that the client was asked for, except those that only look."""
    lines = [line.split() for line in Path(runner.environment["RECORD"]).read_text().splitlines()]
    return [
        words for words in lines if words[0] in ("pull", "build", "run") and not {"sha256:empty", "nvidia-smi"} & set(words)
    ]


@pytest.fixture(scope="session")
def action() -> Iterator[Path]:
    """The action's files at the path that a runner uses, readable for all users."""
    with tempfile.TemporaryDirectory() as root:
        Path(root).chmod(0o755)
        folder = Path(root) / "_actions" / "9cog" / "echoself-action" / "v1"
        folder.mkdir(parents=True)
        for name in ACTION_FILES:
            shutil.copy(ROOT / name, folder)
        shutil.copytree(
            ROOT / "echoself_action", folder / "echoself_action", ignore=shutil.ignore_patterns("__pycache__", "native.bin")
        )
        shutil.copytree(
            ROOT / "packages/localhub",
            folder / "packages/localhub",
            ignore=shutil.ignore_patterns("__pycache__", "tests", "benchmarks"),
        )
        yield folder


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory, action: Path) -> Path:
    """A tool cache as an earlier job leaves it, with a venv that uses the packages of this Python."""
    folder = tmp_path_factory.mktemp("tools")
    venv = add_venv(folder, action, ["python3"], Path(sysconfig.get_path("purelib")))
    for kind in ("cpu", "cuda"):  # for jobs that find a GPU, too
        other = venv.with_name(f"{kind}-{venv.name.partition('-')[2]}")
        if not other.exists():
            other.symlink_to(venv)
    return folder


def add_venv(tools: Path, action: Path, python: list[str], packages: Path) -> Path:
    """Add the venv to a tool cache that host_runtime.py would install with the command `python`; it has these `packages`."""
    say = "import host_runtime, sys; print(host_runtime.key())"
    environment = {"PATH": PATH, "PYTHONPATH": str(action), "PYTHONDONTWRITEBYTECODE": "1"}
    key = subprocess.run([*python, "-c", say], env=environment, capture_output=True, check=True, text=True).stdout.strip()
    venv = tools / "echoself-action" / key
    subprocess.run([*python, "-m", "venv", "--without-pip", venv], env={"PATH": PATH}, check=True)
    (site,) = venv.glob("lib/python3*/site-packages")
    (site / "installed.pth").write_text(f"{packages}\n{action / 'packages/localhub'}\n")
    (venv / "complete").write_text(contents(venv))
    return venv


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder that all users can access, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder) / "runner"


@pytest.fixture
def on_host(root: Path, action: Path, tools: Path) -> Runner:
    return Runner(root, action, tools, {"runtime": "host"}, {"OMP_NUM_THREADS": "1"}, {})


@pytest.fixture
def asked(action: Path, tools: Path, tmp_path: Path) -> Runner:
    """A runner with the recorder for a Docker client."""
    (tmp_path / "bin").mkdir()
    for name, script in (("docker", RECORDER), ("nvidia-smi", '#!/bin/sh\n[ -n "$GPU" ]\n')):
        (tmp_path / "bin" / name).write_text(script)
        (tmp_path / "bin" / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path / 'bin'}:{PATH}", "RECORD": str(tmp_path / "record"), "GPU": ""}
    return Runner(tmp_path / "runner", action, tools, {}, environment, {}, "9Cog/echoself-action", "v1")


@pytest.fixture
def in_container(root: Path, action: Path) -> Iterator[Runner]:
    docker = {name: os.environ[name] for name in ("DOCKER_HOST", "DOCKER_CONFIG") if name in os.environ}
    runner = Runner(root, action, root / "tools", {"image": os.environ["ECHOSELF_IMAGE"]}, docker, ordinary_user())
    yield runner
    assert not [name for name in containers() if runner.run_id in name], "no container is left"
    assert {path.lstat().st_uid for path in runner.workspace.rglob("*")} <= {USER if runner.user else os.getuid()}


@pytest.fixture(params=["on_host", pytest.param("in_container", marks=pytest.mark.container)])
def runner(request: pytest.FixtureRequest) -> Runner:
    """A runner of each kind, with a text file in its workspace."""
    found: Runner = request.getfixturevalue(request.param)
    return found


def ordinary_user() -> dict[str, Any]:
    """The job's user: unprivileged, but in the group of the Docker socket, as on a runner."""
    if os.getuid():
        return {}
    socket = Path(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://"))
    return {"user": USER, "group": USER, "extra_groups": [socket.stat().st_gid]}


def containers() -> list[str]:
    command = ["docker", "ps", "--all", "--format", "{{.Names}}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
