"""Kill the command line at random moments, run it again until its job is complete, and check that nothing was lost.

    python tests/stress/torture.py [--kills 200] [--seed 1] [--jobs 2]    a table; exit code 1 if anything was lost
    python tests/stress/torture.py --matrix                               all cells of the exactness matrix (matrix.py)

train, deploy, pull and cycle are real processes with a tiny model and a Hub in a folder or in a process. The moment of a kill
is log-uniform from the process's start or its first output, or within milliseconds of a half-written folder, or during
publishing; 7 of 10 signals are SIGKILL, the others SIGTERM and SIGINT. Between runs, what the next one resumes from is
sometimes damaged. After each kill, every checkpoint with its final name must exist and be complete, unless pruned by design,
and equal that of an uninterrupted run at its step; the Hub's branches must hold complete models and all earlier commits. At the
end, weights and optimizer state must equal those of the uninterrupted run. All random choices depend on the seed only.
"""

import argparse
import itertools
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import jobs
import matrix
from common import results
from common.results import Figures
from jobs import Setting
from victims import PROBLEMS, Count, Victim, make_template

SETTINGS = (
    Setting(),
    Setting(cosine=True),
    Setting("bfloat16", 0.1, 3),
    Setting("float32", 0.1, 3, cosine=True),
)
SHARES = {"train": 0.4, "cycle": 0.3, "deploy": 0.15, "pull": 0.15}
KILLS_PER_JOB = 4


def main() -> None:
    parser = results.parser(__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="number of jobs that run at the same time")
    parser.add_argument("--matrix", action="store_true", help="the exactness matrix instead")
    parser.add_argument("--keep", type=Path, help="work in this new folder and keep it")
    given = parser.parse_args()
    figures = Figures(given)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background process may inherit SIG_IGN
    began = time.monotonic()
    with ExitStack() as stack:
        folder = given.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        jobs.prepare(folder)
        failed = (report_matrix if given.matrix else report_kills)(given, folder, figures)
        print(f"\n{time.monotonic() - began:.0f} s, {given.jobs} jobs at a time, seed {given.seed}")
    figures.write()
    sys.exit(failed)


def report_matrix(given: argparse.Namespace, folder: Path, figures: Figures) -> bool:
    cells = matrix.run_matrix(matrix.matrix_cells(), folder, given.seed, given.jobs)
    print(matrix.table(cells))
    different = sum(bool(cell.difference) for cell in cells)
    print(f"\n{len(cells)} cells, {len(cells) - different} equal, {different} different")
    figures.add("cells", "equal", len(cells) - different)
    figures.add("cells", "different", different)
    return different > 0


def report_kills(given: argparse.Namespace, folder: Path, figures: Figures) -> bool:
    with ThreadPoolExecutor(given.jobs) as threads:
        places = [folder / f"setting-{number}" for number in range(len(SETTINGS))]
        templates = list(threads.map(make_template, places, SETTINGS))
        numbers = itertools.count()
        victims = [
            Victim(mode, folder / f"{mode}-{number}", random.Random(f"{given.seed} {number}"), kills, templates)
            for mode, share in SHARES.items()
            for kills in kills_per_job(round(given.kills * share))
            for number in [next(numbers)]
        ]
        list(threads.map(Victim.run, victims))
    rows, damages = {}, Counter[str]()
    for victim in victims:
        damages += victim.damages
        for moment, count in victim.counts.items():
            row = rows.setdefault((victim.mode, moment), Count())
            row.kills += count.kills
            row.completed += count.completed
            row.problems += count.problems
    print(table(rows))
    for (mode, moment), row in sorted(rows.items()):
        figures.add("kills", f"{mode}, {moment}", row.kills.total())
        figures.add("completed", f"{mode}, {moment}", row.completed)
        figures.add("problems", f"{mode}, {moment}", len(row.problems))
    print("\ndamaged between two runs: " + ", ".join(f"{what} {times}" for what, times in sorted(damages.items())))
    problems = [problem for row in rows.values() for problem in row.problems]
    print("\n".join(f"{kind}: {what}" for kind, what in problems) or "no violation")
    return bool(problems)


def kills_per_job(kills: int) -> list[int]:
    """The numbers of kills of the jobs."""
    return [min(KILLS_PER_JOB, kills - done) for done in range(0, kills, KILLS_PER_JOB)]


def table(rows: dict[tuple[str, str], Count]) -> str:
    lines = ["| mode | moment | kills | KILL / TERM / INT | completed | " + " | ".join(PROBLEMS) + " |", "|---" * 10 + "|"]
    total = Count()
    for (mode, moment), row in sorted(rows.items()):
        lines.append(_row(mode, moment, row))
        total.kills += row.kills
        total.completed += row.completed
        total.problems += row.problems
    return "\n".join([*lines, _row("all", "", total)])


def _row(mode: str, moment: str, row: Count) -> str:
    signals = " / ".join(str(row.kills[f"SIG{name}"]) for name in ("KILL", "TERM", "INT"))
    counts = Counter(kind for kind, _ in row.problems)
    figures = [str(counts[kind]) for kind in PROBLEMS]
    return f"| {mode} | {moment} | {row.kills.total()} | {signals} | {row.completed} | {' | '.join(figures)} |"


if __name__ == "__main__":
    main()
