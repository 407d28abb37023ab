"""Real runs with max_minutes, of several sizes, must end within their budget with everything saved.

    python tests/stress/budget.py [--minutes 1,2] [--sizes tiny,ci,scheduled,85M] [--jobs 1]

The time is that of the whole process: imports, corpus, training, the last evaluation and save, and the sample. Exit code 1 if a
run ends more than 30 s after or before its budget, or without a complete checkpoint of its last step.
"""

import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from common import results
from common.results import Figures
from jobs import read_and_check

from echoself_action.checkpoint.model_folder import ModelFolder
from echoself_action.checkpoint.select import latest

ROOT = Path(__file__).parents[2]
# layers, heads, width, block, batch
SIZES = {"tiny": (2, 2, 16, 32, 4), "ci": (4, 4, 256, 128, 8), "scheduled": (6, 6, 384, 256, 8), "85M": (12, 12, 768, 256, 2)}
WITHIN_S = 30


def main() -> None:
    parser = results.parser(__doc__)
    parser.add_argument("--minutes", default="1,2")
    parser.add_argument("--sizes", default="tiny,ci,scheduled,85M")
    parser.add_argument("--jobs", type=int, default=1, help="at a time")
    given = parser.parse_args()
    figures = Figures(given)
    print("| model | budget, s | ended after, s | over, s | steps | whole checkpoint of the last step |")
    print("|---|---|---|---|---|---|")
    cells = list(product(given.sizes.split(","), map(float, given.minutes.split(","))))
    with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(given.jobs) as threads:
        kept = list(threads.map(lambda cell: run(Path(place), *cell, figures), cells))
    figures.write()
    sys.exit(not all(kept))


def run(place: Path, name: str, minutes: float, figures: Figures) -> bool:
    """Whether it ended in time and saved; prints its row."""
    out = place / f"{name}-{minutes:g}"
    layers, heads, width, block, batch = SIZES[name]
    flags = {
        "n-layer": layers, "n-head": heads, "n-embd": width, "block-size": block, "batch-size": batch, "max-iters": 10**7,
        "max-minutes": minutes, "tokenizer": "bytes", "data": "tests/data/scenes/*.md", "output-dir": out, "device": "cpu",
        "log-interval": 1, "eval-interval": 100, "checkpoint-interval": 100,
    }  # fmt: skip
    began = time.monotonic()
    words = [word for flag, value in flags.items() for word in (f"--{flag}", str(value))]
    command = [sys.executable, "-m", "echoself_action", "train", *words]
    code = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL).returncode
    took = time.monotonic() - began
    steps = json.loads((out / "log.jsonl").read_text().splitlines()[-1])["step"]
    newest = latest(out)
    whole = code == 0 and newest is not None and newest.step == steps and isinstance(read_and_check(newest.path), ModelFolder)
    over = took - 60 * minutes
    print(f"| {name} | {60 * minutes:.0f} | {took:.1f} | {over:+.1f} | {steps} | {'yes' if whole else 'NO'} |", flush=True)
    for what, value in {"over the budget, s": over, "steps": steps, "whole checkpoints of the last step": whole}.items():
        figures.add(what, f"{name}, {60 * minutes:.0f} s", float(value))
    return whole and abs(over) <= WITHIN_S


if __name__ == "__main__":
    main()
