"""The time of whole processes until a model reaches the loss that nanoGPT's train.py reaches.

    python benchmarks/time_to_loss.py [--nanogpt PATH_OF_A_CHECKOUT] [--isa avx2] [--shape baby] [--steps 2000] [--ours 400]

nanoGPT trains for --steps, eager in fp32 with the settings of its README for a CPU (with --device cuda compiled, in bfloat16).
`echoself train` uses its own defaults for --ours steps of --batch sequences. --isa limits both to an instruction set. The two
take turns, one seed at a time. Then one function evaluates both models on the whole held-out text in fp32. Times include
start-up, saving, and one evaluation of a single batch on both sides; ours also the sample at the end of a run. Its result is a
stock GPT-2 folder.
"""

import argparse
import subprocess
import tempfile
import time
from pathlib import Path

from common import results
from common.instruction_sets import add_isa, limit_to
from common.peers import (
    SHAPES,
    TEXT,
    NanoGPT,
    Shape,
    Tokens,
    add_device,
    add_nanogpt,
    describe_nanogpt,
    nanogpt_command,
    nanogpt_on,
    our_command,
    write_tokens,
)
from common.results import Figures, machine, spread

from echoself_action.checkpoint.select import latest
from echoself_action.checkpoint.weights import load_model
from echoself_action.evaluation.loss import HeldOut


def main() -> None:
    parser = results.parser(__doc__)
    add_nanogpt(parser)
    add_device(parser)
    add_isa(parser)
    parser.add_argument("--text", type=Path, default=TEXT)
    parser.add_argument("--shape", default="baby", choices=SHAPES)
    parser.add_argument("--steps", type=int, default=2000, help="of nanoGPT")
    parser.add_argument("--ours", type=int, default=400, help="steps of ours")
    parser.add_argument("--batch", type=int, default=16, help="sequences in a step of ours")
    parser.add_argument("--input", action="append", default=[], help="a further input of ours: name=value")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    limit_to(given.isa)
    print(f"{machine()}; {describe_nanogpt(given.nanogpt)}.\n")
    print("| seed | nanoGPT, s | its val loss | ours, s | our val loss | time of nanoGPT's |")
    print("|---|---|---|---|---|---|", flush=True)
    figures, shares = Figures(given), []
    with tempfile.TemporaryDirectory() as folder:
        work, shape = Path(folder), SHAPES[given.shape]
        tokens = write_tokens(given.text, shape.tokenizer, work)
        for seed in range(1, given.seeds + 1):
            row = compared(given, shape, tokens, work, seed)
            print("| " + " | ".join(str(value) for value in (seed, *row.values())) + " |", flush=True)
            shares.append(row["share"])
            for program in ("nanoGPT", "ours"):
                figures.add("whole process, s", program, row[f"{program}_s"])
                figures.add("validation loss", program, row[f"{program}_loss"])
    figures.add("time, of nanoGPT's", "ours", *shares)
    print(f"\n{spread(shares, '.3f')} of nanoGPT's time")
    figures.write()


def compared(given: argparse.Namespace, shape: Shape, tokens: Tokens, work: Path, seed: int) -> dict[str, float]:
    theirs, ours = work / f"theirs-{seed}", work / f"ours-{seed}"
    command = nanogpt_command(given.nanogpt, shape, work, theirs, given.steps, **nanogpt_on(given.device))
    # its seed is a constant in train.py, and no setting
    script = (work / "train.py").read_text().replace("manual_seed(1337", f"manual_seed({seed}")
    (work / f"train-{seed}.py").write_text(script)
    command[1] = f"train-{seed}.py"
    their_time = timed(command, work)
    further = dict(word.split("=", 1) for word in given.input)
    settings = {"max_iters": given.ours, "batch_size": given.batch, "seed": seed, "log_interval": 50, "device": given.device}
    intervals = {"eval_interval": given.ours, "checkpoint_interval": given.ours}
    our_time = timed(our_command(shape, tokens, ours, **settings, **intervals, **further), work)
    held_out = HeldOut(tokens.val, shape.block_size)
    folder = latest(ours)
    assert folder
    return {
        "nanoGPT_s": round(their_time, 1),
        "nanoGPT_loss": round(held_out.loss(NanoGPT(given.nanogpt, theirs)), 4),  # type: ignore[arg-type]
        "ours_s": round(our_time, 1),
        "ours_loss": round(held_out.loss(load_model(folder)), 4),
        "share": round(our_time / their_time, 3),
    }


def timed(command: list[str], work: Path) -> float:
    began = time.monotonic()
    ended = subprocess.run(command, cwd=work, capture_output=True, text=True)
    if ended.returncode:
        raise SystemExit((ended.stdout + ended.stderr)[-3000:])
    return time.monotonic() - began


if __name__ == "__main__":
    main()
