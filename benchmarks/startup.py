"""Start-up time of whole processes: `--help`, `pull`, `deploy` of an unchanged model, and `train` up to its first step.

    python benchmarks/startup.py [--turns 9]

For comparison `python -c "import torch"`, which every mode that computes needs. All take turns. `pull` and `deploy` use a local
Hub in another process. `train` ends when its first step is logged; the time of the step is the program's own figure. Processor
time is user and system time: on a machine with other load it is more reliable than wall time.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from common import results
from common.results import Figures, machine

from echoself_action.training.result import LOG_FILE
from echoself_action.training.settings import PRESETS

ROOT = Path(__file__).parent.parent
ECHOSELF = (sys.executable, "-m", "echoself_action")
OUT = "echoself-model"
REPO = ("--repo-id", "me/model")
TRAIN: tuple[str, ...] = ("train", "--preset", "ci")
TRAIN += ("--tokenizer", "bytes", "--data", "*.md", "--val-fraction", "0.5", "--log-interval", "1", "--device", "cpu")
LIMITS = {"help": 0.3, "pull": 1.0, "deploy": 1.5}  # seconds, of a quiet machine


def main() -> None:
    parser = results.parser(__doc__)
    parser.add_argument("--turns", type=int, default=9)
    given = parser.parse_args()
    figures = Figures(given)
    with tempfile.TemporaryDirectory() as folder:
        taken = measured(Path(folder), given.turns)
    print(machine())
    print("| process | processor time, s: least, median (range) | by the clock, s: least, median (range) | target |")
    print("|---|---|---|---|")
    step = min(seconds for seconds, _ in taken.pop("first step"))
    limits = LIMITS | {"train": 1.3 * min(cpu for _, cpu in taken["import torch"]) + step}
    for name, times in taken.items():
        cpu, clock = [cpu for _, cpu in times], [seconds for seconds, _ in times]
        target = f"{limits[name]:.2f}" if name in limits else ""
        print(f"| {name} | {_spread(cpu)} | {_spread(clock)} | {target} |")
        figures.add("by the clock, s", name, *clock)
        figures.add("processor time, s", name, *cpu)
    print(
        f"The first step itself takes {step:.3f} s at least; train's target is 1.3 times the least of import torch, and that."
    )
    figures.write()


def measured(work: Path, turns: int) -> dict[str, list[tuple[float, float]]]:
    """By process, for each turn: (seconds by the clock, of the processor)."""
    for number, text in enumerate(sorted((ROOT / "tests/data/scenes").glob("*.md"))):
        (work / f"{number}.md").write_bytes(text.read_bytes())
    taken: dict[str, list[tuple[float, float]]] = {}
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HOME": str(work / "cache"), "GITHUB_OUTPUT": str(work / "outputs")}
    with _hub(work / "hub", environment) as endpoint:
        environment |= {"HF_ENDPOINT": endpoint}
        _run([*ECHOSELF, *TRAIN, "--max-iters", "2", "--output-dir", OUT], work, environment)
        _run([*ECHOSELF, "deploy", *REPO, "--output-dir", OUT], work, environment)
        for turn in range(turns):
            commands = {
                "import torch": [sys.executable, "-c", "import torch"],
                "help": [*ECHOSELF, "--help"],
                "pull": [*ECHOSELF, "pull", *REPO, "--output-dir", f"pulled-{turn}"],
                "deploy": [*ECHOSELF, "deploy", *REPO, "--output-dir", OUT],
            }
            for name, command in commands.items():
                taken.setdefault(name, []).append(_run(command, work, environment))
            whole, step = _first_step(work, f"trained-{turn}", environment)
            taken.setdefault("train", []).append(whole)
            taken.setdefault("first step", []).append((step, step))
    return taken


def _run(command: Sequence[str], work: Path, environment: Mapping[str, str]) -> tuple[float, float]:
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=work, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout
    said = process.stdout.read()
    cpu = _wait(process)
    took = time.perf_counter() - began
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}: {said.decode(errors='replace')}")
    return took, cpu


def _first_step(work: Path, out: str, environment: Mapping[str, str]) -> tuple[tuple[float, float], float]:
    """Of training until its first step is logged, and the seconds of that step."""
    log = work / out / LOG_FILE
    began = time.perf_counter()
    command = [*ECHOSELF, *TRAIN, "--max-iters", "1000", "--output-dir", out]
    process = subprocess.Popen(command, cwd=work, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (log.exists() and log.read_bytes().count(b"\n")):
        if process.poll() is not None:
            sys.exit(f"{' '.join(command)} ended with {process.returncode} before its first step")
        time.sleep(0.005)
    took = time.perf_counter() - began
    process.kill()
    cpu = _wait(process)
    preset = PRESETS["ci"]
    tokens = preset.batch_size * preset.gradient_accumulation * preset.block_size
    return (took, cpu), tokens / json.loads(log.read_text().splitlines()[0])["tokens_per_second"]


def _wait(process: "subprocess.Popen[bytes]") -> float:
    """Wait for its end; returns the seconds of the processor that it took."""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return used.ru_utime + used.ru_stime


@contextmanager
def _hub(folder: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """The endpoint of a local Hub in a process of its own."""
    command = [*ECHOSELF, "hub", "--dir", str(folder)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    endpoint = process.stdout.readline().split()[2].rstrip(",")
    try:
        yield endpoint
    finally:
        process.terminate()
        process.wait()


def _spread(values: Sequence[float]) -> str:
    return f"{min(values):.2f}, {statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main()
