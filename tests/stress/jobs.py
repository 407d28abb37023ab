"""Jobs as real processes, uninterrupted reference runs, and checks, for torture.py and matrix.py.

A job is a folder with a small corpus, in which our command line is run, stopped and run again until STEPS steps are done.
Importing PyTorch takes seconds, and the tested work less than one: most processes are therefore forked from one that has
imported everything (multiprocessing's forkserver).
"""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from echoself_action.__main__ import main
from echoself_action.checkpoint.model_folder import ModelFolder, check_weights, read_model_folder
from echoself_action.checkpoint.select import branched_from, resumable
from echoself_action.errors import CheckpointError, HubError
from echoself_action.hub.client import open_hub
from echoself_action.hub.endpoint import Hub
from echoself_action.hub.fetch import download
from echoself_action.hub.repo import MODEL_FILES, STATE_FILES, Listing, look_up
from echoself_action.training.result import LOG_FILE
from echoself_action.training.training_state import check_state, read_state

ROOT = Path(__file__).parents[2]
STEPS, EVERY = 48, 6  # of a run; between checkpoints
REPO = "me/model"
OUT, HUB = "out", "hub"


@dataclass(frozen=True)
class Setting:
    """Settings that may affect whether a run can be resumed exactly."""

    dtype: str = "float32"
    dropout: float = 0.0
    accumulation: int = 1
    cosine: bool = False  # over STEPS; else warmup-stable-decay
    architecture: str = "gpt2"

    def words(self) -> list[str]:
        """Flags of train and cycle."""
        values = {
            "architecture": self.architecture, "n-layer": 2, "n-head": 2, "n-embd": 16, "block-size": 32, "tokenizer": "bytes",
            "dtype": self.dtype, "dropout": self.dropout, "gradient-accumulation": self.accumulation, "batch-size": 4,
            "warmup": 0, "learning-rate": 0.01, "eval-interval": EVERY, "checkpoint-interval": EVERY, "eval-tokens": 1024,
            "log-interval": 1, "data": "docs/*.md", "device": "cpu",
        }  # fmt: skip
        values |= {"total-iters": STEPS} if self.cosine else {}
        return [word for name, value in values.items() for word in (f"--{name}", str(value))]


def prepare(folder: Path) -> None:
    """Set the environment of all processes, before the first is started."""
    os.environ |= {
        "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HOME": str(folder / "hf"),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }  # fmt: skip
    modes = [f"echoself_action.modes.{mode}" for mode in ("train", "deploy", "pull", "cycle")]
    late = ["localhub", "huggingface_hub.hf_api", "transformers.models.gpt2.modeling_gpt2"]
    _forks.set_forkserver_preload(["echoself_action.__main__", *modes, *late])


_forks = multiprocessing.get_context("forkserver")


def _main(folder: Path, log: Path, arguments: list[str]) -> None:
    os.chdir(folder)
    with log.open("wb") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    torch.set_num_threads(1)
    sys.exit(main(arguments))


class Running:
    """A process of either kind."""

    def __init__(self, process: "subprocess.Popen[bytes] | multiprocessing.context.ForkServerProcess") -> None:
        self._process = process
        if not isinstance(process, subprocess.Popen):
            process.start()

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""
        return self._process.poll() if isinstance(self._process, subprocess.Popen) else self._process.exitcode

    def wait(self, seconds: float) -> int:
        """Its exit code. Raises SystemExit if it does not end within `seconds`."""
        until = time.monotonic() + seconds
        while (code := self.poll()) is None:
            if time.monotonic() > until:
                self.send(signal.SIGKILL)
                raise SystemExit(f"process {self._process.pid} did not end within {seconds} s")
            time.sleep(0.002)
        return code

    def send(self, number: signal.Signals) -> bool:
        """Send a signal; False if it has ended."""
        assert self._process.pid
        try:
            os.kill(self._process.pid, number)
        except ProcessLookupError:
            return False
        return True


class Job:
    """A folder, and the processes that are run in it one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.output_dir, self.runs = folder, folder / OUT, 0
        docs = folder / "docs"
        docs.mkdir(parents=True)
        for scene in (ROOT / "tests/data/scenes").glob("*.md"):
            shutil.copy(scene, docs)

    def start(self, mode: str, *words: object, from_exec: bool = False) -> "Running":
        """`echoself MODE` as a process, with its output in `log`. `from_exec`: not forked, as a user's shell starts it."""
        self.runs += 1
        self.log = self.folder / f"{self.runs}-{mode}.txt"
        self.log.touch()
        arguments = [mode, "--output-dir", OUT, *map(str, words)]
        if not from_exec:
            return Running(_forks.Process(target=_main, args=(self.folder, self.log, arguments)))
        command = [sys.executable, "-m", "echoself_action", *arguments]
        with self.log.open("wb") as output:
            return Running(subprocess.Popen(command, cwd=self.folder, stdout=output, stderr=subprocess.STDOUT))

    def run(self, mode: str, *words: object, code: int = 0) -> None:
        """The same, until it ends. Raises SystemExit if its exit code is not `code`."""
        found = self.start(mode, *words).wait(300)
        if found != code:
            raise SystemExit(f"{self.log} ended with {found}, not {code}:\n{self.log.read_text()}")

    def steps(self) -> int:
        """How many steps the log of the training has."""
        log = self.output_dir / LOG_FILE
        return log.read_text().count("\n") if log.exists() else 0


def training(setting: Setting, left: int, *more: object) -> list[str]:
    """Flags of a run of `left` steps."""
    return [*setting.words(), "--max-iters", str(left), "--max-minutes", "0", "--preset", "ci", *map(str, more)]


def resume_step(output_dir: Path, hub_step: int = 0) -> int:
    """The step from which a run to STEPS resumes in `output_dir`: that of the newest checkpoint that it would choose.

    `hub_step`: the step of the Hub's stable checkpoint, which `cycle` downloads first. It then does not resume from a decay
    phase whose own stable checkpoint is missing in `output_dir`, e.g. because the download was killed before it.
    """
    undamaged = undamaged_checkpoints(output_dir)
    paths = {folder.path for folder in undamaged}
    stable_steps = {folder.step for folder in undamaged if branched_from(folder) is None}
    for folder in sorted(undamaged, key=lambda folder: -folder.step):
        step, decays_from = folder.step, branched_from(folder)
        if step == STEPS:
            return step
        if hub_step and decays_from is not None and decays_from not in stable_steps:
            continue
        if folder.path == next(one.path for one in resumable(output_dir, STEPS - step) if one.path in paths):
            return max(step, hub_step)
    return hub_step


def names(output_dir: Path) -> set[str]:
    """The checkpoints with a final name, damaged ones included."""
    return {path.name for path in output_dir.glob("checkpoint-*")}


def undamaged_checkpoints(output_dir: Path) -> list[ModelFolder]:
    """The checkpoints that are complete and match their checksums."""
    return [folder for name in names(output_dir) if isinstance(folder := read_and_check(output_dir / name), ModelFolder)]


def read_and_check(path: Path) -> ModelFolder | str:
    """The model folder at `path`, or why it is damaged or incomplete."""
    try:
        folder = read_model_folder(path)
        check_weights(folder)
        check_state(folder)
    except CheckpointError as error:
        return error.message
    return folder


def fingerprint(path: Path) -> tuple[str, str | None]:
    """sha256 of the weights and of the optimizer's moments (None if there is no training state)."""
    folder = read_model_folder(path)
    assert folder.metadata
    digest = folder.metadata.weights_sha256
    return digest, read_state(path, digest)[0].moments_sha256 if folder.has_training_state else None


@dataclass(frozen=True)
class Reference:
    """An uninterrupted run: fingerprints of its checkpoints by step, and its folder."""

    checkpoints: dict[int, tuple[str, str | None]]
    folder: Path
    seconds: float  # from its first output to its end

    def contradictions(self, output_dir: Path) -> list[str]:
        """The undamaged checkpoints in `output_dir` whose weights differ from this run's at the same step."""
        return [
            f"{folder.path} differs from the uninterrupted run"
            for folder in undamaged_checkpoints(output_dir)
            if (expected := self.checkpoints.get(folder.step)) and fingerprint(folder.path)[0] != expected[0]
        ]


def reference(folder: Path, setting: Setting) -> Reference:
    """Train the whole run without an interruption in `folder`, and keep all of its checkpoints."""
    job = Job(folder)
    seconds = timed(job, "train", *training(setting, STEPS, "--keep-checkpoints", 1000))
    found = {path.step: fingerprint(path.path) for path in undamaged_checkpoints(job.output_dir)}
    return Reference(found, job.output_dir, seconds)


def timed(job: Job, mode: str, *words: object) -> float:
    """Run it to its end; seconds from its first output."""
    process = job.start(mode, *words)
    wait_until(process, lambda: job.log.stat().st_size > 0)
    began = time.monotonic()
    if process.wait(300):
        raise SystemExit(job.log.read_text())
    return time.monotonic() - began


def wait_until(process: Running, condition: Callable[[], bool], pause: float = 0.001) -> bool:
    """Wait until `condition()` is true; False if the process ended first."""
    while process.poll() is None:
        if condition():
            return True
        time.sleep(pause)
    return False


def stop(process: Running, number: signal.Signals) -> int | None:
    """Send a signal and wait up to a minute for the process to end; its exit code, or None if it had ended before."""
    return process.wait(60) if process.send(number) else None


@dataclass(frozen=True)
class Published:
    """A branch of the repo: its commits, newest first, and the step and weights of the model at its head, if it has one."""

    commits: tuple[str, ...] = ()
    step: int = 0
    weights: str | None = None


def published(where: str) -> tuple[dict[str, Published], list[str]]:
    """The main and training-state branches, and what is incomplete or corrupted in them."""
    with open_hub(where, None, lambda _: None) as hub:
        remote = look_up(hub, REPO, "main")
        found, wrong = {}, []
        for branch, listing in (("main", remote.model), ("training-state", remote.state)):
            if listing is None:
                continue
            commits = tuple(commit.commit_id for commit in hub.api.list_repo_commits(REPO, revision=branch))
            found[branch], problem = _head(hub, listing, commits)
            wrong += [f"{branch} at {commits[0]}: {problem}"] if problem else []
    return found, wrong


def _head(hub: Hub, listing: Listing, commits: tuple[str, ...]) -> tuple[Published, str]:
    if not set(listing.files) & {*MODEL_FILES, *STATE_FILES}:
        return Published(commits), ""
    if not listing.has_model:
        return Published(commits), f"an incomplete model: {', '.join(listing.files)}"
    with TemporaryDirectory() as place:
        for file in listing.files.values():
            try:
                download(hub, REPO, listing.commit, file, Path(place))
            except HubError as error:  # missing, or its checksum differs from the Hub's
                return Published(commits), error.message
        folder = read_and_check(Path(place))
        if isinstance(folder, str):
            return Published(commits), folder
        assert folder.metadata
        return Published(commits, folder.step, folder.metadata.weights_sha256), ""
