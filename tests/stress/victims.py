"""The jobs that `torture.py` kills: how each is resumed after a kill, and what is checked then."""

import math
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import jobs
from jobs import (
    HUB,
    REPO,
    ROOT,
    STEPS,
    Job,
    Published,
    Reference,
    Running,
    Setting,
    published,
    resume_step,
    training,
    wait_until,
)

from echoself_action.checkpoint.select import branched_from, broken, folders_of_step

FIRST = 16  # steps of the cycle before, whose model is on the Hub when `cycle` and `deploy` start
MOMENTS = {
    "train": ("starting", "working", "writing"),
    "deploy": ("starting", "working", "publishing"),
    "pull": ("starting", "working", "writing"),
    "cycle": ("starting", "working", "writing", "publishing"),
}
SIGNALS = (signal.SIGKILL,) * 7 + (signal.SIGTERM,) * 2 + (signal.SIGINT,)
PROBLEMS = ("lost", "unreadable", "wrong", "hub", "other")
# parts of log lines that are waited for or checked
PUBLISHING, RESUMES, SKIPS_DAMAGED, BUG = "Publishing", "start: ", "instead.", "This is a bug"
DAMAGED = 0.3  # probability of a damaged checkpoint between two runs
STARTING_S = 5  # longest time from the start of a process to a kill: imports and the first of the work
KEEP_FEW, KEEP_ALL = 3, 1000
TENSORS = ("model.safetensors", "training_state/optimizer.safetensors")
TEXTS = ("config.json", "tokenizer.json", "tokenizer_config.json", "training_metadata.json", "training_state/state.json")
FILES = (*TENSORS, *TEXTS)


@dataclass
class Count:
    """The outcome of the kills of one mode at one moment."""

    kills: Counter[str] = field(default_factory=Counter)  # by signal
    completed: int = 0  # those whose job was complete in the end
    problems: list[tuple[str, str]] = field(default_factory=list)  # (one of PROBLEMS, description)


@dataclass(frozen=True)
class Template:
    """What the jobs of one setting start with, and what their results are compared with."""

    setting: Setting
    trained: Reference  # by one run of train
    cycled: Reference  # by two cycles through a Hub
    old_hub: Path  # after the first cycle
    new_hub: Path  # after the second
    old_branches: dict[str, Published]  # of old_hub
    branches: dict[str, Published]  # of new_hub
    seconds: dict[str, float]  # by mode: from the first output to the end


def make_template(folder: Path, setting: Setting) -> Template:
    """The uninterrupted runs."""
    trained = jobs.reference(folder / "trained", setting)
    hub = ("--hub", HUB, "--repo-id", REPO)
    job = Job(folder / "cycled")
    job.run("cycle", *training(setting, FIRST, *hub))
    old_hub = Path(shutil.copytree(job.folder / HUB, folder / "old-hub"))
    shutil.rmtree(job.output_dir)
    pull = jobs.timed(job, "pull", *hub)
    cycle = jobs.timed(
        job, "cycle", *training(setting, STEPS - resume_step(job.output_dir), *hub, "--keep-checkpoints", KEEP_ALL)
    )
    deploy = jobs.timed(job, "deploy", "--hub", "another", "--repo-id", REPO)
    return Template(
        setting=setting,
        trained=trained,
        cycled=Reference(
            {one.step: jobs.fingerprint(one.path) for one in jobs.undamaged_checkpoints(job.output_dir)}, job.output_dir, cycle
        ),
        old_hub=old_hub,
        new_hub=job.folder / HUB,
        old_branches=published(str(old_hub))[0],
        branches=published(str(job.folder / HUB))[0],
        seconds={"train": trained.seconds, "cycle": cycle, "pull": pull, "deploy": deploy},
    )


class Victim:
    """A job of one mode that is killed `kills` times and then completed."""

    def __init__(self, mode: str, folder: Path, rng: random.Random, kills: int, templates: Sequence[Template]) -> None:
        self.mode, self.folder, self.rng, self.kills_left = mode, folder, rng, kills
        self.template = rng.choice(templates)
        self.keep = rng.choice((KEEP_FEW, KEEP_ALL)) if mode in ("train", "cycle") else KEEP_ALL
        self.serves, self.begins_empty = rng.random() < 0.5, rng.random() < 0.5
        self.uninterrupted = self.template.trained if mode == "train" else self.template.cycled
        self.counts: dict[str, Count] = {}
        self.damages: Counter[str] = Counter()
        self.moment = MOMENTS[mode][0]

    def run(self) -> None:
        """Repeat the job until it has been killed often enough and is complete."""
        rounds = 0
        while self.kills_left or not rounds:
            rounds += 1
            with self._job(self.folder / str(rounds)) as job:
                self._round(job)
        if not any(count.problems for count in self.counts.values()):
            shutil.rmtree(self.folder)

    @contextmanager
    def _job(self, folder: Path) -> Iterator[Job]:
        job, template = Job(folder), self.template
        self.damaged = dict[str, bool]()  # checkpoints damaged on purpose, and whether they are of a decay phase
        self.where = ""
        with ExitStack() as stack:
            if self.mode != "train":
                if self.mode == "pull":
                    shutil.copytree(template.new_hub, folder / HUB)
                elif self.mode == "cycle" or not self.begins_empty:
                    shutil.copytree(template.old_hub, folder / HUB)
                self.where = stack.enter_context(served(folder / HUB)) if self.serves else str(folder / HUB)
            if self.mode == "deploy":
                shutil.copytree(template.cycled.folder, job.output_dir)
            yield job

    def _round(self, job: Job) -> None:
        kills: Counter[str] = Counter()
        for _ in range(60):
            run = self._next(job)
            if run is None:
                self._check_end(job)
                for moment, times in kills.items():
                    self.counts[moment].completed += times
                return
            commits, must_name = self._commits(), self._names_expected_in_log(job)
            moment = self.rng.choice(MOMENTS[run[0]]) if self.kills_left else ""
            process = job.start(*run, from_exec=moment == "starting")
            killed = bool(moment) and self._interrupt(process, job, moment, kills)
            if not killed:
                self.acknowledged = jobs.names(job.output_dir)
                if code := process.wait(300):
                    self._add_problem("other", f"{job.log} exited with {code}: {job.log.read_text()[-600:]}")
                    return
            self._check(job, commits, must_name)
            if killed and self.rng.random() < DAMAGED:
                self._damage(job)
        self._add_problem("other", f"{job.folder} was not complete after 60 runs")

    def _next(self, job: Job) -> list[str] | None:
        """The next command, or None if the job is complete."""
        hub = ["--hub", self.where, "--repo-id", REPO]
        kept = ["--keep-checkpoints", str(self.keep)]
        if self.mode == "train":
            left = STEPS - resume_step(job.output_dir)
            return ["train", *training(self.template.setting, left, *kept)] if left else None
        if self.mode == "pull":
            done = all(folders_of_step(job.output_dir, branch.step) for branch in self.template.branches.values())
            return None if done else ["pull", *hub]
        there = published(self.where)[0]
        if _same_weights(there, self.template.branches):
            return None
        if self.mode == "deploy":
            return ["deploy", *hub]
        resumes_at = resume_step(job.output_dir, there["training-state"].step)
        if resumes_at == STEPS:
            return ["deploy", *hub]
        return ["cycle", *training(self.template.setting, STEPS - resumes_at, *hub, *kept)]

    def _interrupt(self, process: Running, job: Job, moment: str, kills: Counter[str]) -> bool:
        """Send a signal at a moment; False if the process ended before it."""
        number = self.rng.choice(SIGNALS)
        if not self._wait_for(moment, process, job, self.template.seconds[job.log.stem.partition("-")[2]]):
            return False
        self.acknowledged = jobs.names(job.output_dir)
        code = jobs.stop(process, number)
        if code is None:
            return False
        self.kills_left -= 1
        self.moment = moment
        kills[moment] += 1
        count = self.counts.setdefault(moment, Count())
        count.kills[number.name] += 1
        if code not in (0, 130, -number) or BUG in job.log.read_text():
            self._add_problem("other", f"{job.log} exited with {code} after {number.name}: {job.log.read_text()[-600:]}")
        return True

    def _wait_for(self, moment: str, process: Running, job: Job, seconds: float) -> bool:
        """Wait for a random time at `moment`; False if the process ended first. A run takes about `seconds`."""
        rng = self.rng
        if moment == "starting":
            return _wait(process, log_uniform(rng, 0.05, STARTING_S))
        if not wait_until(process, lambda: job.log.stat().st_size > 0):
            return False
        if moment == "working":
            return _wait(process, log_uniform(rng, 0.005, seconds))
        if moment == "publishing":
            begun = wait_until(process, lambda: f"\n{PUBLISHING}" in job.log.read_text(errors="replace"))
            return begun and _wait(process, rng.uniform(0, self.template.seconds["deploy"]))
        nth, seen = rng.randrange(1, 8), set[str]()

        def half_written() -> bool:
            seen.update(path.name for path in job.output_dir.glob(".writing-*"))
            return len(seen) >= nth

        return wait_until(process, half_written, 0.0005) and _wait(process, rng.uniform(0, 0.02))

    def _damage(self, job: Job) -> None:
        """Damage the checkpoint that the next run would resume from, as a partial copy or a faulty disk does."""
        there = jobs.undamaged_checkpoints(job.output_dir)
        if self.mode not in ("train", "cycle") or len(there) < 2 or self.damaged:
            return
        step = resume_step(job.output_dir)
        (in_decay,) = [branched_from(folder) is not None for folder in there if folder.step == step]
        chosen = folders_of_step(job.output_dir, step)[-1]
        how = self.rng.choice(("flip", "truncate", "delete"))
        files = [chosen / name for name in (FILES if how == "delete" else TENSORS)]
        path = self.rng.choice([file for file in files if file.is_file()])  # a pulled checkpoint may have no training state
        if how == "delete":
            path.unlink()
        elif how == "truncate":
            with path.open("r+b") as file:
                file.truncate(self.rng.randrange(path.stat().st_size))
        else:
            content = bytearray(path.read_bytes())
            content[self.rng.randrange(len(content))] ^= 1 << self.rng.randrange(8)
            path.write_bytes(content)
        self.damaged[chosen.name] = in_decay
        self.damages[f"{how} {path.name}"] += 1

    def _names_expected_in_log(self, job: Job) -> set[str]:
        """The damaged checkpoints that the log of the next run must name: those it would resume from if they were undamaged.

        A readable checkpoint of a decay phase is not one of them: without it, the next run has more steps to do and starts the
        decay phase again from the stable checkpoint. Nor is one that is not ahead of the Hub's, which `cycle` downloads.
        """
        unreadable = " ".join(error.message for error in broken(job.output_dir))
        downloaded = published(self.where)[0]["training-state"].step if self.mode == "cycle" else 0
        return {
            name
            for name, in_decay in self.damaged.items()
            if _step(name) > downloaded and (not in_decay or re.search(rf"\b{name}\b", unreadable))
        }

    def _check(self, job: Job, before: dict[str, tuple[str, ...]], must_name: set[str]) -> None:
        """Check what must hold after every run, however it ended."""
        log = job.log.read_text()
        skipped = " ".join(line for line in log.splitlines() if line.endswith(SKIPS_DAMAGED))
        unnamed = [name for name in must_name if not re.search(rf"\b{name}\b", skipped)]
        if RESUMES in log and unnamed:
            self._add_problem("other", f"{job.log} doesn't say that {', '.join(unnamed)} is damaged")
        there = jobs.names(job.output_dir)
        aside = {path.name for path in job.output_dir.glob("superseded-*/*")}
        for name in self.acknowledged - there - aside:
            pruned = self.keep == KEEP_FEW and _step(name) < max(map(_step, there), default=0) and len(there) >= KEEP_FEW
            if not pruned:
                self._add_problem("lost", f"{job.output_dir / name} after {job.log}")
        for name in there:
            found = jobs.read_and_check(job.output_dir / name)
            if not isinstance(found, str):
                self.damaged.pop(name, None)
            elif name not in self.damaged:
                self._add_problem("unreadable", f"{found} after {job.log}")
        self.damaged = {name: in_decay for name, in_decay in self.damaged.items() if name in there}
        for problem in self.uninterrupted.contradictions(job.output_dir):
            self._add_problem("wrong", f"{problem} after {job.log}")
        if self.where:
            self._check_hub(job, before)

    def _check_hub(self, job: Job, before: dict[str, tuple[str, ...]]) -> None:
        there, wrong = published(self.where)
        for problem in wrong:
            self._add_problem("hub", f"{problem} after {job.log}")
        for branch, commits in before.items():
            if branch not in there or there[branch].commits[-len(commits) :] != commits:
                self._add_problem("hub", f"{branch} lost commits after {job.log}")
        known: set[str | None] = {weights for weights, _ in self.uninterrupted.checkpoints.values()}
        known |= {head.weights for head in self.template.old_branches.values()} | {None}
        for branch, head in there.items():
            if head.weights not in known:
                self._add_problem("wrong", f"{branch} at step {head.step} differs from the uninterrupted run: {job.log}")

    def _check_end(self, job: Job) -> None:
        """Check the result of a complete job."""
        if self.mode == "train":
            expected = {STEPS: self.uninterrupted.checkpoints[STEPS]}
        elif self.mode == "pull":
            expected = {head.step: self.uninterrupted.checkpoints[head.step] for head in self.template.branches.values()}
        else:
            return  # it is complete because the Hub has the expected model
        for step, fingerprint in expected.items():
            if jobs.fingerprint(folders_of_step(job.output_dir, step)[-1])[0] != fingerprint[0]:
                self._add_problem("wrong", f"{job.output_dir} at step {step}")
            if self.mode == "train" and jobs.fingerprint(folders_of_step(job.output_dir, step)[-1]) != fingerprint:
                self._add_problem("wrong", f"{job.output_dir} at step {step}: other optimizer state")

    def _commits(self) -> dict[str, tuple[str, ...]]:
        return {branch: head.commits for branch, head in published(self.where)[0].items()} if self.where else {}

    def _add_problem(self, kind: str, what: str) -> None:
        self.counts.setdefault(self.moment, Count()).problems.append((kind, what))
        print(f"{kind}: {what}", file=sys.stderr, flush=True)


def _same_weights(one: dict[str, Published], other: dict[str, Published]) -> bool:
    return {name: head.weights for name, head in one.items()} == {name: head.weights for name, head in other.items()}


def _step(name: str) -> int:
    return int(re.sub(r"\D", "", name))


def _wait(process: Running, seconds: float) -> bool:
    until = time.monotonic() + seconds
    return wait_until(process, lambda: time.monotonic() >= until)


def log_uniform(rng: random.Random, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(max(low, high))))


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The URL of a Hub in a process of its own."""
    command = [sys.executable, "-m", "localhub", "--dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout
            yield process.stdout.readline().split()[2].rstrip(",")
        finally:
            process.kill()
