"""`cycle` night after night, each on a fresh runner, through a local Hub: does the published model get better, and never worse?

    python benchmarks/nights.py --corpus FOLDER_OR_FILE ... [--nights 20] [--seconds 90] [--preset auto] [--side-by-side]
    python benchmarks/nights.py --corpus ... --poison 5 --kill 8 --grow 12      # the troubled series
    python benchmarks/nights.py --corpus ... --config echoself.yml              # any other inputs

A night is a whole process of `echoself cycle` with repo_id, hub, data, max_minutes, preset and the file of `--config`, and no
other input, in a new folder that contains a copy of the corpus and nothing else. Only the Hub's folder is kept. In the troubled
series one night gets `learning_rate: 0.5`, one is killed (SIGKILL, its whole process group) in the middle of training, and from
one night on the corpus has the tenth of its text that was held back before.

After each night, one function measures the published model and the model of the training state, as downloaded from the Hub:
bits per byte of all held-out text of the final corpus, in fp32. Its scores on questions and its echo fidelity, if `--config`
has `evaluate`, are those that its metadata records. The checks at the end allow the published curve to rise by `--tolerance`,
because the gate evaluates on the held-out text that the corpus has that night, and on eval_tokens of it.
"""

import argparse
import hashlib
import json
import math
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path

from common import results
from common.corpora import EVERYTHING, add_corpora, bits_per_byte_of_folder, files_of, name_of, split_text
from common.results import Figures, machine

from echoself_action.checkpoint.metadata import METADATA_FILE, Metadata
from echoself_action.checkpoint.model_folder import WEIGHTS_FILE, read_model_folder, sha256
from echoself_action.checkpoint.question_facts import Estimate
from echoself_action.corpus.chunking import cut_passages
from echoself_action.hub.client import open_hub
from echoself_action.hub.fetch import download
from echoself_action.hub.repo import MAIN, REQUIRED_FILES, Listing, look_up
from echoself_action.training.result import LOG_FILE

REPO = "me/model"
OUT = "echoself-model"
POISON = {"learning_rate": 0.5}
HELD_BACK = 0.1  # of the text, before the night of --grow
CONVERGED_S = 20  # a night that has nothing to gain must be shorter
SOUND = 1.05  # after a troubled night, bits per byte of the training state may be this much higher than before it
GRACE_S = 600  # a night that takes longer than three times its minutes and this is killed
RESULTS = {"published": "o", "advanced": "^", "rolled_back": "v", "converged": "s", "": "."}


@dataclass(frozen=True)
class Model:
    """A model on the Hub: its step, bits per byte of the held-out text, and the sha256 of its weights.

    `scores` are those of its metadata by name: value and bounds of the 95 % confidence interval.
    """

    step: int
    bits_per_byte: float
    sha256: str
    scores: dict[str, tuple[float, float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Night:
    """`trained` identifies the run's training losses, bit for bit; empty if it took no steps. `step` is the last one logged."""

    corpus: str
    number: int
    result: str
    exit_code: int
    seconds: float
    step: int
    trained: str
    published: Model | None
    state: Model | None
    killed: bool = False
    poisoned: bool = False
    grown: bool = False  # from this night on


def main() -> None:
    parser = results.parser(__doc__)
    add_corpora(parser)
    parser.add_argument("--nights", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=90, help="max_minutes of a night, in seconds")
    parser.add_argument("--preset", default="auto")
    parser.add_argument("--config", type=Path, help="YAML file of further inputs")
    parser.add_argument("--poison", type=int, default=0, metavar="NIGHT", help="gets learning_rate: 0.5")
    parser.add_argument("--kill", type=int, default=0, metavar="NIGHT", help="is killed in the middle of training")
    parser.add_argument("--grow", type=int, default=0, metavar="NIGHT", help="from it on the corpus has a tenth more text")
    parser.add_argument("--tolerance", type=float, default=0.002, help="bits per byte that the published curve may rise by")
    parser.add_argument("--side-by-side", action="store_true", help="one corpus per core at a time, each pinned to its core")
    parser.add_argument("--work", type=Path, help="folder to keep everything in, and to continue a series from")
    given = parser.parse_args()
    figures = Figures(given)
    print(machine())
    print(
        "| corpus | night | result | exit code | seconds | last step | published: step | bits per byte | weights "
        "| training state: step | bits per byte | weights | scores of the published model (95 % CI) |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(len(_cores()) if given.side_by_side else 1) as threads:
        work = (given.work or Path(folder)).absolute()
        free: queue.SimpleQueue[int] = queue.SimpleQueue()
        for core in _cores():
            free.put(core)
        run = partial(_pinned, given, work, free) if given.side_by_side else partial(series, given, work)
        nights = {name_of(corpus): done for corpus, done in zip(given.corpus, threads.map(run, given.corpus), strict=True)}
    for name, rows in nights.items():
        for of in ("published", "state"):
            models = [getattr(row, of) for row in rows]
            measured = [model.bits_per_byte for model in models if model]
            figures.add("bits per byte by night", f"{name}: {of}", *measured)
        for score in _score_names(rows):
            values = [row.published.scores[score][0] for row in rows if row.published and score in row.published.scores]
            figures.add(f"{score} by night", name, *values)
        figures.add("whole process, s", name, *(row.seconds for row in rows))
    checks = [check for name, rows in nights.items() for check in checked(name, rows, given)]
    print()
    for passed, sentence in checks:
        print(f"{'PASS' if passed else 'FAIL'} {sentence}")
    figures.write(
        draw=partial(plot, nights),
        nights=[asdict(row) for rows in nights.values() for row in rows],
        checks=[{"passed": passed, "check": sentence} for passed, sentence in checks],
    )
    sys.exit(0 if all(passed for passed, _ in checks) else 1)


def _cores() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]


def _pinned(given: argparse.Namespace, work: Path, free: "queue.SimpleQueue[int]", corpus: Path) -> list[Night]:
    """`series` on one core: the affinity of this thread, which its processes inherit, as with taskset."""
    import torch

    torch.set_num_threads(1)
    core = free.get()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    try:
        return series(given, work, corpus)
    finally:
        free.put(core)


def series(given: argparse.Namespace, work: Path, corpus: Path) -> list[Night]:
    """All nights of a corpus. Those that `work` has from before are not repeated."""
    name = name_of(corpus)
    place = work / name
    place.mkdir(parents=True, exist_ok=True)
    kept = place / "nights.jsonl"
    nights = [_read(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    held_out = split_text(corpus).held_out
    for number in range(len(nights) + 1, given.nights + 1):
        night = _night(given, corpus, place, number, held_out, nights[-1] if nights else None)
        nights.append(night)
        with kept.open("a") as file:
            file.write(json.dumps(asdict(night)) + "\n")
        print(_row(night), flush=True)
    return nights


def _read(line: str) -> Night:
    content = json.loads(line)
    models = {of: Model(**content[of]) if content[of] else None for of in ("published", "state")}
    return Night(**content | models)


def _row(night: Night) -> str:
    marks = {"killed": night.killed, "learning_rate 0.5": night.poisoned, "a tenth more text": night.grown}
    result = ", ".join([night.result or "-", *(mark for mark, applies in marks.items() if applies)])
    cells = [night.corpus, night.number, result, night.exit_code, f"{night.seconds:.1f}", night.step]
    for model in (night.published, night.state):
        cells += [model.step, f"{model.bits_per_byte:.4f}", model.sha256[:8]] if model else ["", "", ""]
    scores = night.published.scores if night.published else {}
    cells.append("; ".join(f"{name} {value:.3f} ({low:.3f} to {high:.3f})" for name, (value, low, high) in scores.items()))
    return "| " + " | ".join(map(str, cells)) + " |"


def _night(
    given: argparse.Namespace, corpus: Path, place: Path, number: int, held_out: Sequence[str], before: Night | None
) -> Night:
    runner = place / "runner"
    shutil.rmtree(runner, ignore_errors=True)
    runner.mkdir()
    pattern = copy_corpus(corpus, runner / "corpus", 1 - HELD_BACK if number < given.grow else 1)
    inputs: dict[str, object] = {"repo_id": REPO, "hub": place / "hub", "data": pattern, "max_minutes": given.seconds / 60}
    inputs |= {"preset": given.preset} | (POISON if number == given.poison else {})
    inputs |= {"config": given.config.absolute()} if given.config else {}
    flags = [word for name, value in inputs.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    command = [sys.executable, "-m", "echoself_action", "cycle", *flags]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}
    environment |= {"HF_HOME": str(runner / ".huggingface"), "PYTHONUNBUFFERED": "1"}
    log, began = runner / OUT / LOG_FILE, time.monotonic()
    printed = place / f"night-{number}.log"
    with printed.open("w") as output:
        process = subprocess.Popen(
            command, cwd=runner, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        killed = number == given.kill and _killed_in_training(process, log, given.seconds)
        try:
            process.wait(max(1.0, 3 * given.seconds + GRACE_S - (time.monotonic() - began)))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    seconds, said = time.monotonic() - began, printed.read_text(errors="replace")
    if process.returncode and not killed:
        print(said[-2000:], file=sys.stderr)
    results = re.findall(r"^result=(.*)$", said, re.MULTILINE)
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    losses = json.dumps([(line["step"], line["loss"]) for line in lines])
    published, state = measure(place, held_out, before)
    shutil.rmtree(runner, ignore_errors=True)
    return Night(
        corpus=name_of(corpus),
        number=number,
        result=results[-1] if results else "",
        exit_code=process.returncode,
        seconds=seconds,
        step=lines[-1]["step"] if lines else 0,
        trained=hashlib.sha256(losses.encode()).hexdigest() if lines else "",
        published=published,
        state=state,
        killed=killed,
        poisoned=number == given.poison,
        grown=number == given.grow,
    )


def copy_corpus(corpus: Path, folder: Path, share: float) -> str:
    """Copy about `share` of the text of `corpus` into the new `folder`; returns the input `data` for it.

    Of a folder whole files are left out, in an order by their names' hash; of one file its last passages, as `train` cuts it:
    no passage of the rest changes its split.
    """
    folder.mkdir()
    files = files_of(corpus)
    total = sum(path.stat().st_size for path in files)
    if corpus.is_file():
        kept, size = [], 0
        for passage in cut_passages([corpus.read_text(encoding="utf-8")]):
            size += len(passage.encode())
            if size > share * total and share < 1:
                break
            kept.append(passage)
        (folder / corpus.name).write_text("".join(kept), encoding="utf-8")
        return f"{folder.name}/{corpus.name}"
    room = (1 - share) * total
    for path in sorted(files, key=lambda path: hashlib.sha256(str(path.relative_to(corpus)).encode()).digest()):
        if path.stat().st_size <= room:
            room -= path.stat().st_size
            continue
        copy = folder / path.relative_to(corpus)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    return f"{folder.name}/{EVERYTHING}"


def _killed_in_training(process: "subprocess.Popen[bytes]", log: Path, seconds: float) -> bool:
    """Kill the group of `process` after half of its time, once it has logged a step; False if it has ended before."""
    began = time.monotonic()
    while time.monotonic() - began < 3 * seconds + GRACE_S / 2:
        if process.poll() is not None:
            return False
        if log.exists() and time.monotonic() - began > seconds / 2:
            break
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    return True


_OPENING = threading.Lock()  # opening a Hub switches settings of huggingface_hub


@contextmanager
def _downloaded(place: Path) -> Iterator[list[Path | None]]:
    """The published model folder and the training state's, as the Hub in `place` has them; None for what it does not have."""
    with _OPENING, tempfile.TemporaryDirectory() as folder:
        with open_hub(str(place / "hub"), None) as hub:
            remote = look_up(hub, REPO, MAIN)

            def fetched(listing: Listing | None, into: Path) -> Path | None:
                if listing is None or not listing.has_model:
                    return None
                for name in (*REQUIRED_FILES, METADATA_FILE):
                    download(hub, REPO, listing.commit, listing.files[name], into)
                return into

            found = [fetched(remote.model, Path(folder) / "model"), fetched(remote.state, Path(folder) / "state")]
        yield found


def measure(place: Path, held_out: Sequence[str], before: Night | None) -> tuple[Model | None, Model | None]:
    """The published model and that of the training state. Weights that the night did not change are not measured again."""
    known = {model.sha256: model for model in (before.published, before.state) if model} if before else {}
    models: list[Model | None] = []
    with _downloaded(place) as folders:
        for folder in folders:
            if folder is None:
                models.append(None)
                continue
            weights = sha256(folder / WEIGHTS_FILE)
            bits = known[weights].bits_per_byte if weights in known else bits_per_byte_of_folder(folder, held_out)
            read = read_model_folder(folder)
            models.append(Model(read.step, bits, weights, _scores(read.metadata)))
    published, state = models
    return published, state


def _scores(facts: Metadata | None) -> dict[str, tuple[float, float, float]]:
    """The scores that `facts` records: on questions, and the echo fidelity."""
    found: dict[str, Estimate] = {}
    if facts and facts.questions:
        scores = facts.questions.scores
        found |= {
            "accuracy": scores.accuracy,
            "preference": scores.preference,
            "bits per byte of answers": scores.bits_per_byte,
        }
    if facts and facts.fidelity:
        found["echo fidelity"] = facts.fidelity.unprompted.score
    return {name: (one.value, one.low, one.high) for name, one in found.items()}


def checked(name: str, nights: Sequence[Night], given: argparse.Namespace) -> list[tuple[bool, str]]:
    """What must hold for a series: whether it does, and a sentence with the figures."""
    return [
        _never_rises(name, nights, given.tolerance),
        _no_bits_twice(name, nights),
        _never_stuck(name, nights),
        _short_once_converged(name, nights),
        _exit_codes(name, nights),
        *_recovers(name, nights),
    ]


def _never_rises(name: str, nights: Sequence[Night], tolerance: float) -> tuple[bool, str]:
    curve = [(night.number, night.published.bits_per_byte) for night in nights if night.published]
    least, rises = math.inf, [(0.0, 0)]
    for number, bits in curve:
        rises.append((math.inf if math.isnan(bits) else bits - least, number) if least < math.inf else (0.0, number))
        least = min(least, bits)
    most, number = max(rises)
    course = f"from {curve[0][1]:.4f} to {curve[-1][1]:.4f} bits per byte" if curve else "nothing was published"
    rise = f"largest rise {most:.4f}, night {number}" if most > 0 else "no rise"
    return bool(
        curve
    ) and most <= tolerance, f"{name}: the published curve never rises ({course}; {rise}; tolerance {tolerance})"


def _no_bits_twice(name: str, nights: Sequence[Night]) -> tuple[bool, str]:
    """A killed night does not count: the next one takes the steps again that were lost. Weights that were published before
    and become those of the training state were trained twice."""
    first: dict[str, int] = {}
    twice: list[str] = []
    before: set[str] = set()
    for night in nights:
        published = night.published.sha256 if night.published else ""
        state = night.state.sha256 if night.state and night.state.sha256 not in before else ""
        before = {night.state.sha256} if night.state else set()
        if night.killed:
            continue
        twice += [f"{night.number} as {first[bits]}" for bits in (state, night.trained) if bits in first]
        first = dict.fromkeys({published, state, night.trained} - {""}, night.number) | first
    return not twice, f"{name}: no two nights trained the same bits" + (f" (night {', '.join(twice)})" if twice else "")


def _never_stuck(name: str, nights: Sequence[Night]) -> tuple[bool, str]:
    """Each night moves the training state, or says that it was rolled back or has converged, except those that were killed."""
    stuck = []
    before: Night | None = None
    for night in nights:
        moved = night.state is not None and (
            before is None or before.state is None or night.state.sha256 != before.state.sha256
        )
        again = before is not None and before.result == "rolled_back" and night.trained and night.trained == before.trained
        if again or not (moved or night.killed or night.result in ("rolled_back", "converged")):
            stuck.append(str(night.number))
        before = night
    return not stuck, f"{name}: the training state never gets stuck" + (f" (night {', '.join(stuck)})" if stuck else "")


def _short_once_converged(name: str, nights: Sequence[Night]) -> tuple[bool, str]:
    after = [
        night.seconds for before, night in pairwise(nights) if before.result == night.result == "converged" and not night.grown
    ]
    figures = f"{len(after)} of them, at most {max(after):.1f} s" if after else "there was none"
    return max(after, default=0) < CONVERGED_S, f"{name}: nights after converged take under {CONVERGED_S} s ({figures})"


def _exit_codes(name: str, nights: Sequence[Night]) -> tuple[bool, str]:
    wrong = [f"night {night.number}: {night.exit_code}" for night in nights if night.exit_code and not night.killed]
    return not wrong, f"{name}: exit code 0 each night but the killed one" + (f" ({'; '.join(wrong)})" if wrong else "")


def _recovers(name: str, nights: Sequence[Night]) -> Iterator[tuple[bool, str]]:
    """The night after a troubled one is fine, and the training state is as good as before the trouble."""
    for index, night in enumerate(nights):
        trouble = "learning_rate 0.5" if night.poisoned else "the kill" if night.killed else ""
        if not trouble:
            continue
        if index + 1 == len(nights):
            yield False, f"{name}: recovered from {trouble} (night {night.number} is the last, so nothing shows it)"
            continue
        after, before = nights[index + 1], nights[index - 1] if index else None
        said = after.result or "no result"
        fine = after.exit_code == 0 and after.result != "rolled_back" and after.state is not None
        course = ""
        if after.state and before and before.state:
            fine = fine and after.state.bits_per_byte <= before.state.bits_per_byte * SOUND  # False for NaN
            course = f", training state {before.state.bits_per_byte:.4f} before and {after.state.bits_per_byte:.4f} after"
        yield fine, f"{name}: the night after {trouble} is fine (night {after.number}: {said}{course})"


def _score_names(nights: Sequence[Night]) -> list[str]:
    """The names of all scores of the published models."""
    return list(dict.fromkeys(score for night in nights if night.published for score in night.published.scores))


def plot(nights: dict[str, list[Night]], title: str, path: Path) -> None:
    """Bits per byte by night, a chart for each corpus, and one for each score; as PNG at `path` and as SVG beside it."""
    from matplotlib.figure import Figure

    scored = [(name, rows, score) for name, rows in nights.items() for score in _score_names(rows)]
    figure = Figure(figsize=(9, 1 + 3.2 * (len(nights) + len(scored))), layout="constrained")
    figure.suptitle(title, fontsize="medium")
    charts = figure.subplots(len(nights) + len(scored), squeeze=False)[:, 0]
    for axes, (name, rows, score) in zip(charts[len(nights) :], scored, strict=True):
        points = [(row.number, *row.published.scores[score]) for row in rows if row.published and score in row.published.scores]
        numbers, values, lows, highs = zip(*points, strict=True)
        axes.fill_between(numbers, lows, highs, color="tab:blue", alpha=0.2, label="95 % confidence interval")
        axes.plot(numbers, values, "o-", color="tab:blue", label="published")
        axes.set(xlabel="night", ylabel=score, title=name)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(fontsize="small")
    for axes, (name, rows) in zip(charts[: len(nights)], nights.items(), strict=True):
        for of, colour in (("state", "tab:orange"), ("published", "tab:blue")):
            points = [(row, model) for row in rows if (model := getattr(row, of))]
            label = "training state" if of == "state" else of
            axes.plot(
                [row.number for row, _ in points], [model.bits_per_byte for _, model in points], color=colour, label=label
            )
            for result, mark in RESULTS.items():
                here = [(row.number, model.bits_per_byte) for row, model in points if row.result == result]
                if here:
                    axes.plot(*zip(*here, strict=True), mark, color=colour, label=result if of == "published" else None)
        for row in rows:
            trouble = "learning_rate 0.5" if row.poisoned else "killed" if row.killed else "more text" if row.grown else ""
            if trouble:
                axes.axvline(row.number, color="grey", linestyle=":")
                axes.annotate(trouble, (row.number, 1), xycoords=("data", "axes fraction"), fontsize="small", va="top")
        axes.set(xlabel="night", ylabel="bits per byte", title=name)
        axes.xaxis.get_major_locator().set_params(integer=True)
        with suppress(ValueError):
            axes.legend(fontsize="small")
    figure.savefig(path, format="png")
    figure.savefig(path.with_suffix(".svg"), format="svg")


if __name__ == "__main__":
    main()
