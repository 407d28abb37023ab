"""The final loss of the same small model trained by this package and by nanoGPT's train.py, and the memory of a long run.

    python benchmarks/final_loss.py [--nanogpt PATH_OF_A_CHECKOUT] [--text FILE] [--steps 2000]

Both get the same tokens, split at 90%, the same sizes (`baby` in common/peers.py), AdamW, steps and learning-rate schedule,
eager in fp32 on the CPU. One function evaluates both final models on the whole held-out text. Resident memory of ours is
measured at a quarter of the run and at its end. For speed see speed.py and time_to_loss.py.
"""

import argparse
import json
import re
import subprocess
import tempfile
import time
from pathlib import Path

from common import results
from common.peers import SHAPES, TEXT, NanoGPT, add_nanogpt, nanogpt_command, our_command, write_tokens
from common.results import Figures, machine

from echoself_action.checkpoint.select import latest
from echoself_action.checkpoint.weights import load_model
from echoself_action.evaluation.loss import HeldOut

SHAPE = SHAPES["baby"]
RATE, WARMUP = 1e-3, 100


def main() -> None:
    parser = results.parser(__doc__)
    add_nanogpt(parser)
    parser.add_argument("--text", type=Path, default=TEXT)
    parser.add_argument("--steps", type=int, default=2000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        benchmark(given, Path(folder))


def benchmark(given: argparse.Namespace, work: Path) -> None:
    tokens = write_tokens(given.text, SHAPE.tokenizer, work)
    command = nanogpt_command(given.nanogpt, SHAPE, work, work / "theirs", given.steps, beta2=0.95, warmup_iters=WARMUP)
    subprocess.run(command, cwd=work, check=True, stdout=subprocess.DEVNULL)
    settings = {
        "optimizer": "adamw", "dtype": "float32", "learning_rate": RATE, "warmup": WARMUP, "weight_decay": 0.1,
        "max_iters": given.steps, "total_iters": given.steps, "eval_interval": given.steps, "checkpoint_interval": given.steps,
    }  # fmt: skip
    early, late = watched(our_command(SHAPE, tokens, work / "ours", **settings), work / "ours")
    held_out = HeldOut(tokens.val, SHAPE.block_size)
    folder = latest(work / "ours")
    assert folder
    ours = held_out.loss(load_model(folder))
    theirs = held_out.loss(NanoGPT(given.nanogpt, work / "theirs"))  # type: ignore[arg-type]
    content = {
        "machine": machine(),
        "steps": given.steps,
        "val_loss": {"ours": round(ours, 4), "nanogpt": round(theirs, 4), "ratio": round(ours / theirs, 4)},
        "resident_mb": {"at a quarter of the run": round(early), "at its end": round(late)},
    }
    print(json.dumps(content, indent=2))
    figures = Figures(given)
    figures.add("validation loss", "ours", ours)
    figures.add("validation loss", "nanoGPT", theirs)
    figures.add("resident memory of ours, MB", "at a quarter of the run", early)
    figures.add("resident memory of ours, MB", "at its end", late)
    figures.write()


def watched(command: list[str], out: Path) -> tuple[float, float]:
    """Resident MB at a quarter of the run and at its end."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    resident: list[tuple[int, float]] = []
    while process.poll() is None:
        time.sleep(0.1)
        resident.append((lines_of(out), resident_mb(process.pid)))
    if process.returncode:
        raise SystemExit(f"our run ended with {process.returncode}")
    total = lines_of(out)
    later = [value for lines, value in resident if lines >= total // 4 and value]
    return later[0], later[-1]


def lines_of(out: Path) -> int:
    log = out / "log.jsonl"
    return log.read_text().count("\n") if log.exists() else 0


def resident_mb(pid: int) -> float:
    try:
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


if __name__ == "__main__":
    main()
