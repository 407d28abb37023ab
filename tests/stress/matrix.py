"""The exactness matrix of `torture.py --matrix`: does a stopped and resumed run equal an uninterrupted one?

{fp32, bf16} x {dropout 0, 0.1} x {accumulation 1, 4} x {SIGINT, SIGTERM, SIGKILL, budget} x {in its folder, through the Hub},
and a few of NanEcho: of each cell the final weights and optimizer state are compared bit by bit with those of an uninterrupted
run.
"""

import random
import shutil
import signal
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import jobs
from jobs import (
    HUB,
    REPO,
    STEPS,
    Job,
    Setting,
    fingerprint,
    reference,
    resume_step,
    stop,
    training,
    undamaged_checkpoints,
    wait_until,
)

ENDS = ("SIGINT", "SIGTERM", "SIGKILL", "budget")
PLACES = ("same folder", "the Hub")


@dataclass(frozen=True)
class Cell:
    """One way to stop and resume. `resumed_at`: the step of resuming; `difference`: empty if the results are equal."""

    setting: Setting
    end: str
    place: str
    resumed_at: int = 0
    difference: str = ""


def matrix_cells() -> list[Cell]:
    """The 64 cells of GPT-2 and four of NanEcho.

    Those with a time budget use a cosine schedule over a fixed total: a budget ends an open-ended run with a decay phase, which
    the uninterrupted run does not have at that step.
    """
    settings = [Setting(*values) for values in product(("float32", "bfloat16"), (0.0, 0.1), (1, 4))]
    cells = [Cell(replace(one, cosine=end == "budget"), end, place) for one, end, place in product(settings, ENDS, PLACES)]
    nanecho = Setting("float32", 0.1, 4, architecture="nanecho")
    return cells + [Cell(nanecho, end, place) for end, place in product(("SIGTERM", "SIGKILL"), PLACES)]


def run_matrix(cells: Sequence[Cell], folder: Path, seed: int, jobs_at_a_time: int) -> list[Cell]:
    """The same cells with their results."""
    with ThreadPoolExecutor(jobs_at_a_time) as threads:
        settings = list(dict.fromkeys(cell.setting for cell in cells))
        places = [folder / f"reference-{number}" for number in range(len(settings))]
        references = dict(zip(settings, threads.map(reference, places, settings), strict=True))

        def measured(number: int) -> Cell:
            cell, place = cells[number], folder / f"cell-{number}"
            at, difference = _measure(cell, references[cell.setting], Job(place), random.Random(f"{seed} {number}"))
            if not difference:
                shutil.rmtree(place)
            return replace(cell, resumed_at=at, difference=difference)

        return list(threads.map(measured, range(len(cells))))


def _measure(cell: Cell, whole: jobs.Reference, job: Job, dice: random.Random) -> tuple[int, str]:
    _stop_it(cell, job, dice)
    at = resume_step(job.output_dir)
    if not 0 < at < STEPS:
        return at, f"expected an interrupted run, but it is at step {at}"
    source: list[str] = []
    if cell.place == "the Hub":
        job.run("deploy", "--hub", HUB, "--repo-id", REPO)
        job.output_dir.rename(job.folder / "machine-a")
        source = ["--hub", HUB, "--repo-id", REPO]
    job.run("train", *training(cell.setting, STEPS - at, *source))
    if f"step {at}" not in job.log.read_text():
        return at, f"it did not resume from step {at}"
    newest = max(undamaged_checkpoints(job.output_dir), key=lambda folder: folder.step)
    if newest.step != STEPS:
        return at, f"it ended at step {newest.step}"
    return at, "" if fingerprint(newest.path) == whole.checkpoints[STEPS] else "other weights or optimizer state"


def _stop_it(cell: Cell, job: Job, dice: random.Random) -> None:
    step = dice.randrange(8, STEPS - 12)
    if cell.end == "budget":
        _stop_by_budget(cell, job)
        return
    process = job.start("train", *training(cell.setting, STEPS))
    # after SIGKILL, only a checkpoint that was saved before can be resumed from
    wait_until(process, lambda: job.steps() >= step and (cell.end != "SIGKILL" or bool(jobs.names(job.output_dir))))
    code = stop(process, signal.Signals[cell.end])
    if code not in (130, -signal.SIGKILL):
        raise SystemExit(f"{job.log} was stopped by {cell.end} and exited with {code}:\n{job.log.read_text()}")


def _stop_by_budget(cell: Cell, job: Job) -> None:
    """Search for a time budget that ends in the middle of the run: the speed of the machine is unknown."""
    minutes = 0.02
    for _ in range(6):
        shutil.rmtree(job.output_dir, ignore_errors=True)
        job.run("train", *training(cell.setting, STEPS, "--max-minutes", minutes))
        at = resume_step(job.output_dir)
        if 1 < at < STEPS:
            return
        minutes *= 0.8 if at == STEPS else 1.3


def table(cells: Sequence[Cell]) -> str:
    """A row for each setting, a column for each way to stop: the step of resuming, in the same folder / through the Hub."""
    lines = ["| architecture | dtype | dropout | accumulation | " + " | ".join(ENDS) + " |", "|---" * (4 + len(ENDS)) + "|"]
    for one in dict.fromkeys(replace(cell.setting, cosine=False) for cell in cells):
        shown = []
        for end in ENDS:
            found = [cell for cell in cells if replace(cell.setting, cosine=False) == one and cell.end == end]
            shown.append(" / ".join(cell.difference or f"equal (at {cell.resumed_at})" for cell in found) or "")
        lines.append(f"| {one.architecture} | {one.dtype} | {one.dropout} | {one.accumulation} | {' | '.join(shown)} |")
    return "\n".join(lines)
