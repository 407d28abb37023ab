"""The share of its time that a run with default settings spends in evaluations and in saves, as its job summary reports it.

    python benchmarks/evaluation.py [--isa avx2] [--presets auto,ci] [--minutes 10] [--text FILE]

`echoself train` with preset and data, and no other input but --minutes; each a new model.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from common import results
from common.instruction_sets import add_isa, limit_to
from common.peers import TEXT
from common.results import Figures, machine, print_row

from echoself_action.checkpoint.select import latest


def main() -> None:
    parser = results.parser(__doc__)
    add_isa(parser)
    parser.add_argument("--presets", default="auto,ci")
    parser.add_argument("--minutes", type=float, help="max_minutes of a run (default: the preset's)")
    parser.add_argument("--text", type=Path, default=TEXT)
    given = parser.parse_args()
    limit_to(given.isa)
    figures = Figures(given)
    print(f"{machine()}.\n")
    print_row("preset", "steps", "tokens/s", "minutes", "evaluations", "share of evaluations", "share of saves")
    print("|---|---|---|---|---|---|---|", flush=True)
    for preset in given.presets.split(","):
        with tempfile.TemporaryDirectory() as folder:
            measure(preset, given, Path(folder), figures)
    figures.write()


def measure(preset: str, given: argparse.Namespace, work: Path, figures: Figures) -> None:
    out, summary = work / "model", work / "summary.md"
    inputs = {"preset": preset, "data": given.text.absolute(), "output-dir": out}
    if given.minutes is not None:
        inputs["max-minutes"] = given.minutes
    flags = [word for name, value in inputs.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "echoself_action", "train", *flags]
    environment = os.environ | {"GITHUB_STEP_SUMMARY": str(summary)}
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True)
    folder = latest(out)
    if done.returncode or not folder or not folder.metadata:
        raise SystemExit((done.stdout + done.stderr)[-3000:])
    evaluating, saving = shares(summary.read_text())
    facts = folder.metadata
    print_row(
        f"`{preset}`",
        f"{facts.step:,}",
        f"{facts.tokens_per_second:,.0f}",
        f"{facts.elapsed_s / 60:.1f}",
        str(len(facts.evaluations)),
        f"{evaluating:.1%}",
        f"{saving:.1%}",
    )
    figures.add("share of evaluations", preset, evaluating)
    figures.add("share of saves", preset, saving)


def shares(summary: str) -> tuple[float, float]:
    """Of evaluations and of saves, in the job summary of a run. Raises SystemExit if it has none."""
    found = re.search(r"evaluations ([0-9.]+)%, saves ([0-9.]+)%", summary)
    if not found:
        raise SystemExit(f"The job summary has no shares of evaluations and saves:\n{summary[-3000:]}")
    return float(found[1]) / 100, float(found[2]) / 100


if __name__ == "__main__":
    main()
