"""Bits per byte at equal time: `preset: auto` against the other presets and against nanoGPT's recipe.

    python benchmarks/recipes.py --corpus FOLDER_OR_FILE ... --minutes 30 --seeds 3 --json FILE [--nanogpt PATH_OF_A_CHECKOUT]
    python benchmarks/recipes.py ... --only auto --only ci          # a part; FILE keeps what other parts measured
    python benchmarks/recipes.py --summary --json FILE

Each candidate is a whole process that trains a new model for the same minutes; they take turns, one seed at a time. `auto` gets
the minutes and nothing else. `ci`, `scheduled` and `full` have GPT-2's tokenizer, which was their default before `auto`; with
`--before PYTHON` they are run by an earlier version of this package, installed for that Python. `ci-bpe:N` is `ci` with a
tokenizer trained on the corpus. Their max_iters is 1.2 times what fits by a short measurement of their speed, so that
max_minutes ends them and the warmup, 5% of max_iters, is not too long. nanoGPT has the settings of its README for a CPU, on
GPT-2's tokens and on characters, with max_iters (and lr_decay_iters) by a measurement of its speed; the model is the one that
it keeps, its best by its own evaluations.

All get the same training text, and one function measures each model on all of the same held-out text, in fp32. The split is
this package's, after the removal of held-out text from the training text. nanoGPT gets both as its prepare.py writes it,
with documents joined.

The rule of significance: a candidate is compared with auto seed by seed, by the logarithm of the ratio of their bits per byte.
The difference is significant if a two-sided paired t-test over the seeds gives p < 0.05 (|t| > 4.30 for three seeds).
"""

import argparse
import json
import math
import os
import pickle
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tiktoken
from common import results
from common.corpora import (
    EVERYTHING,
    SplitText,
    add_corpora,
    bits_per_byte,
    bits_per_byte_of_folder,
    name_of,
    split_text,
)
from common.peers import ENDLESS, SHAPES, NanoGPT, Program, add_nanogpt, describe_nanogpt, end, nanogpt_command
from common.results import Figures, machine, paired

from echoself_action.training.result import LOG_FILE

PRESETS: dict[str, dict[str, object]] = {
    "auto": {"preset": "auto"},
    "ci": {"preset": "ci", "tokenizer": "gpt2"},
    "scheduled": {"preset": "scheduled", "tokenizer": "gpt2"},
    "full": {"preset": "full", "tokenizer": "gpt2"},
    **{f"ci-bpe:{size}": {"preset": "ci", "tokenizer": f"bpe:{size}"} for size in (1024, 4096, 8192)},
}
NANOGPT = {"nanogpt-gpt2": "gpt2", "nanogpt-chars": "chars"}
CANDIDATES = (*PRESETS, *NANOGPT)
BPE = [name for name in CANDIDATES if name.startswith("ci-bpe:")]
README = {"eval_iters": 20, "dropout": 0.0, "always_save_checkpoint": False}  # the rest is in nanogpt_command
EVAL_INTERVAL = 250  # config/train_shakespeare_char.py
MARGINS = {"ci": 0.15, "ci-bpe": 0.04}  # auto must be lower than ci, and than the best of ci-bpe, by these shares


@dataclass(frozen=True)
class Measured:
    """A trained model. `seconds` are of the whole process; `steps` its steps, and `model_step` the one that was measured.
    `bits_per_byte` is None if the candidate can't train on the corpus, for the reason in `why_not`."""

    corpus: str
    candidate: str
    seed: int
    minutes: float
    bits_per_byte: float | None
    seconds: float
    steps: int
    model_step: int
    machine: str
    why_not: str = ""

    @property
    def key(self) -> tuple[str, str, int, float]:
        return self.corpus, self.candidate, self.seed, self.minutes


@dataclass
class Bench:
    """What the candidates on one corpus share: options, text, a folder to work in, and speeds that were measured before."""

    given: argparse.Namespace
    corpus: Path
    text: SplitText
    work: Path
    iterations: dict[str, int] = field(default_factory=dict)  # that fit into the minutes, by candidate

    @property
    def seconds(self) -> float:
        return float(self.given.minutes * 60)

    @property
    def calibration_s(self) -> float:
        return max(min(3.0, self.seconds), self.seconds * 0.03)


class CantTrainError(Exception):
    """A candidate that this corpus is not for, such as a vocabulary that its text is too small for."""


def main() -> None:
    parser = results.parser(__doc__)
    add_corpora(parser)
    add_nanogpt(parser)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=CANDIDATES, help="a candidate; may be given several times")
    parser.add_argument("--before", default=sys.executable, metavar="PYTHON", help="for all candidates of ours but auto")
    parser.add_argument("--summary", action="store_true", help="measure nothing: print what the file of --json has")
    given = parser.parse_args()
    kept = json.loads(given.json.read_text())["runs"] if given.json and given.json.exists() else []
    runs = [Measured(**run) for run in kept]
    print(f"{machine()}; {describe_nanogpt(given.nanogpt)}")
    if not given.summary:
        print("| corpus | seed | candidate | bits per byte | seconds | steps | step of the model |")
        print("|---|---|---|---|---|---|---|")
        measure_all(given, runs)
    print()
    for line in summary(runs):
        print(line)
    write(given, runs)


def write(given: argparse.Namespace, runs: Sequence[Measured]) -> None:
    figures = Figures(given)
    for run in runs:
        if run.bits_per_byte is not None:
            figures.add("bits per byte", f"{run.corpus}: {run.candidate}", run.bits_per_byte)
            figures.add("whole process, s", f"{run.corpus}: {run.candidate}", run.seconds)
    figures.write(runs=[asdict(run) for run in runs], summary=summary(runs))


def measure_all(given: argparse.Namespace, runs: list[Measured]) -> None:
    """Measure what `runs` does not have yet, and add it; the file of --json is written after each."""
    done = {run.key for run in runs}
    with tempfile.TemporaryDirectory() as folder:
        benches = [Bench(given, path, split_text(path), Path(folder) / name_of(path)) for path in given.corpus]
        for seed in range(1, given.seeds + 1):
            for bench in benches:
                bench.work.mkdir(exist_ok=True)
                for candidate in given.only or CANDIDATES:
                    if (name_of(bench.corpus), candidate, seed, given.minutes) in done:
                        continue
                    run = measure(bench, candidate, seed)
                    runs.append(run)
                    bits = f"{run.bits_per_byte:.4f}" if run.bits_per_byte is not None else f"- ({run.why_not})"
                    cells = [run.corpus, seed, candidate, bits, f"{run.seconds:.0f}", run.steps, run.model_step]
                    print("| " + " | ".join(map(str, cells)) + " |", flush=True)
                    write(given, runs)


def measure(bench: Bench, candidate: str, seed: int) -> Measured:
    measured: dict[str, Any] = {"bits_per_byte": None, "seconds": 0.0, "steps": 0, "model_step": 0}
    with tempfile.TemporaryDirectory(dir=bench.work) as folder:
        try:
            one = nanogpt if candidate in NANOGPT else ours
            measured |= one(bench, candidate, seed, Path(folder))
        except CantTrainError as error:
            measured |= {"why_not": str(error)}
    given = bench.given
    return Measured(
        corpus=name_of(bench.corpus), candidate=candidate, seed=seed, minutes=given.minutes, machine=machine(), **measured
    )


def ours(bench: Bench, candidate: str, seed: int, work: Path) -> dict[str, object]:
    settings: dict[str, object] = {"seed": seed, "max_minutes": bench.given.minutes}
    if candidate != "auto":
        settings["max_iters"] = _iterations(bench, candidate, work, _our_iterations)
    seconds, printed = _timed(_our_command(bench, candidate, work / "model", **settings), work)
    outputs = dict(re.findall(r"^([a-z_]+)=(.*)$", printed, re.MULTILINE))
    folder = work / outputs["model_dir"]
    return {
        "bits_per_byte": bits_per_byte_of_folder(folder, bench.text.held_out),
        "seconds": seconds,
        "steps": json.loads((work / "model" / LOG_FILE).read_text().splitlines()[-1])["step"],
        "model_step": int(outputs["step"]),
    }


def _our_command(bench: Bench, candidate: str, out: Path, **settings: object) -> list[str]:
    files = bench.corpus.resolve()
    given: dict[str, object] = {"data": files if files.is_file() else f"{files}/{EVERYTHING}", "output_dir": out}
    given |= {"device": "cpu"} | PRESETS[candidate] | settings
    flags = [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    python = sys.executable if candidate == "auto" else bench.given.before
    return [python, "-m", "echoself_action", "train", *flags]


def _our_iterations(bench: Bench, candidate: str, work: Path) -> int:
    endless = {"max_iters": ENDLESS, "max_minutes": 0, "log_interval": 1, "eval_interval": ENDLESS}
    command = _our_command(bench, candidate, work / "speed", **endless, checkpoint_interval=ENDLESS)
    log = work / "speed" / LOG_FILE
    elapsed = _logged(Program(command, work, log, r'"elapsed_s": ([0-9.]+)', float), bench.calibration_s)
    return max(2, math.ceil(1.2 * bench.seconds * (len(elapsed) - 1) / (elapsed[-1] - elapsed[0])))


def nanogpt(bench: Bench, candidate: str, seed: int, work: Path) -> dict[str, object]:
    vocabulary, encode = _vocabulary(bench, candidate)
    data = work / "data/text"
    data.mkdir(parents=True)
    (data / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": vocabulary}))
    held_out = "".join(bench.text.held_out)
    ids = encode(held_out)
    encode("".join(bench.text.train)).astype(np.uint16).tofile(data / "train.bin")
    ids.astype(np.uint16).tofile(data / "val.bin")
    steps = _iterations(bench, candidate, work, _their_iterations)
    interval = min(EVAL_INTERVAL, steps)  # in a short test it keeps a model too
    steps -= steps % interval
    command = _their_command(bench, work, work / "out", steps, eval_interval=interval)
    # its seed is a constant in train.py, and no setting
    script = (work / "train.py").read_text().replace("manual_seed(1337", f"manual_seed({seed}")
    (work / f"train-{seed}.py").write_text(script)
    command[1] = f"train-{seed}.py"
    seconds, printed = _timed(command, work)
    model = NanoGPT(bench.given.nanogpt, work / "out")
    first = len(held_out.encode()) - len(_without_first(candidate, held_out, ids).encode())
    val_losses = {
        int(step): float(loss) for step, loss in re.findall(r"step (\d+): .*val loss ([0-9.]+)", printed) if step != "0"
    }
    return {
        "bits_per_byte": bits_per_byte(model, ids, model.config.block_size, bench.text.held_out_bytes - first),
        "seconds": seconds,
        "steps": steps,
        "model_step": min(val_losses, key=lambda step: val_losses[step]),
    }


def _vocabulary(bench: Bench, candidate: str) -> tuple[int, Callable[[str], np.ndarray[Any, np.dtype[np.uint32]]]]:
    """The size of nanoGPT's vocabulary, and its prepare.py's encoding: of data/shakespeare, or of data/shakespeare_char."""
    if NANOGPT[candidate] == "gpt2":
        gpt2 = tiktoken.get_encoding("gpt2")
        return 50304, lambda text: np.array(gpt2.encode_ordinary(text), np.uint32)  # train.py's default without a meta.pkl
    characters = sorted(set("".join((*bench.text.train, *bench.text.held_out))))
    of = {character: number for number, character in enumerate(characters)}
    return len(characters), lambda text: np.array([of[character] for character in text], np.uint32)


def _without_first(candidate: str, text: str, ids: np.ndarray[Any, np.dtype[np.uint32]]) -> str:
    """`text` without its first token, which is not predicted."""
    if NANOGPT[candidate] == "gpt2":
        return tiktoken.get_encoding("gpt2").decode(ids[1:].tolist())
    return text[1:]


def _their_command(bench: Bench, work: Path, out: Path, steps: int, **settings: object) -> list[str]:
    return nanogpt_command(bench.given.nanogpt, SHAPES["baby"], work, out, steps, dataset="text", **README | settings)


def _their_iterations(bench: Bench, _candidate: str, work: Path) -> int:
    """Its first iteration's time includes an evaluation, of which there is another one every EVAL_INTERVAL iterations."""
    began = time.monotonic()
    command = _their_command(bench, work, work / "speed", ENDLESS)
    program = Program(command, work, work / "speed/none", r"iter \d+: .* time ([0-9.]+)ms", lambda figure: float(figure) / 1000)
    times = _logged(program, bench.calibration_s)
    startup = time.monotonic() - began - sum(times)
    step = statistics.mean(times[1:])
    evaluation = max(0.0, times[0] - step)
    return max(4, int((bench.seconds - startup - evaluation) / (step + evaluation / EVAL_INTERVAL)))


def _logged(program: Program, seconds: float) -> list[float]:
    """The figures that it logs until `seconds` after its first one, and at least three; then it is killed."""
    began = math.inf
    try:
        while not (len(program.rates()) > 2 and time.monotonic() > began + seconds):
            if program.process.poll() is not None:
                raise _failed(program.printed.read_text())
            began = min(began, time.monotonic()) if program.rates() else began
            time.sleep(0.2)
        return program.rates()
    finally:
        end({"": program})


def _iterations(bench: Bench, candidate: str, work: Path, measured: Callable[[Bench, str, Path], int]) -> int:
    """Iterations for the minutes, by a measurement once for each candidate and corpus."""
    if candidate not in bench.iterations:
        bench.iterations[candidate] = measured(bench, candidate, work)
    return bench.iterations[candidate]


def _timed(command: list[str], work: Path) -> tuple[float, str]:
    """Seconds of the whole process, and what it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}
    began = time.monotonic()
    ended = subprocess.run(command, cwd=work, capture_output=True, text=True, env=environment)
    if ended.returncode:
        raise _failed(ended.stdout + ended.stderr)
    return time.monotonic() - began, ended.stdout


def _failed(printed: str) -> Exception:
    """CantTrainError where the corpus is the reason, else SystemExit."""
    found = re.search(r"^echoself: ((The corpus|block_size).*)$", printed, re.MULTILINE)
    return CantTrainError(found[1]) if found else SystemExit(printed[-3000:])


def summary(runs: Sequence[Measured]) -> list[str]:
    """A table of means and spreads, and whether auto is as much lower as it must be."""
    lines = [
        "| corpus | minutes | candidate | seeds | bits per byte: mean (range) | ratio to auto | paired t | significant |",
        "|---|---|---|---|---|---|---|---|",
    ]
    verdicts = []
    for corpus, minutes in sorted({(run.corpus, run.minutes) for run in runs}):
        by_candidate: dict[str, dict[int, float]] = {name: {} for name in CANDIDATES}
        for run in runs:
            if (run.corpus, run.minutes) == (corpus, minutes) and run.bits_per_byte is not None:
                by_candidate[run.candidate][run.seed] = run.bits_per_byte
        auto = by_candidate["auto"]
        for name, bits in by_candidate.items():
            if not bits:
                continue
            values = list(bits.values())
            mean = f"{statistics.mean(values):.4f} ({min(values):.4f} to {max(values):.4f})"
            ratio, t, significant = paired(bits, auto) if name != "auto" else ("1", "", "")
            lines.append(f"| {corpus} | {minutes:g} | {name} | {len(values)} | {mean} | {ratio} | {t} | {significant} |")
        verdicts += _verdicts(corpus, minutes, by_candidate)
    return [*lines, "", *verdicts] if verdicts else lines


def _verdicts(corpus: str, minutes: float, by_candidate: dict[str, dict[int, float]]) -> list[str]:
    """PASS or FAIL: auto against each other candidate that was measured."""
    means = {name: statistics.mean(bits.values()) for name, bits in by_candidate.items() if bits}
    if "auto" not in means:
        return []
    targets = {name: (means[name], MARGINS.get(name, 0.0)) for name in means if name != "auto" and name not in BPE}
    tokenizers = {name: means[name] for name in BPE if name in means}
    if tokenizers:
        best = min(tokenizers, key=lambda name: tokenizers[name])
        targets[f"the best of {', '.join(tokenizers)} ({best})"] = tokenizers[best], MARGINS["ci-bpe"]
    lines = []
    for name, (mean, margin) in targets.items():
        lower = 1 - means["auto"] / mean
        passed = "PASS" if lower > 0 and lower >= margin else "FAIL"
        wanted = f"at least {margin:.0%} lower" if margin else "lower"
        lines.append(f"{passed} {corpus}, {minutes:g} minutes: auto is {wanted} than {name} ({lower:+.1%})")
    return lines


if __name__ == "__main__":
    main()
