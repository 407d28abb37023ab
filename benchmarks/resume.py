"""A run that is interrupted halfway and resumed, compared with an uninterrupted one: this package and nanoGPT's train.py.

    python benchmarks/resume.py --nanogpt PATH_OF_A_CHECKOUT [--text FILE] [--steps 200]

Text, sizes and settings are those of final_loss.py, on the CPU in fp32, with dropout. Each program runs N steps without a stop,
twice, which shows whether it is deterministic; and N/2 steps, and N/2 more from its checkpoint. The final weights and the
training losses of the second half are compared. nanoGPT seeds its generator again at every start, so a resumed run repeats the
batches and the dropout masks of its beginning.
"""

import json
import os
import re
import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from common import results
from common.peers import SHAPES, TEXT, Tokens, nanogpt_command, our_command, write_tokens
from common.results import Figures
from safetensors.torch import load_file

from echoself_action.checkpoint.select import latest

SHAPE = SHAPES["baby"]
DROPOUT, RATE = 0.1, 1e-3


@dataclass(frozen=True)
class Outcome:
    """Training loss by step, and the final weights."""

    losses: dict[int, float]
    weights: dict[str, torch.Tensor]


def main() -> None:
    parser = results.parser(__doc__)
    parser.add_argument("--nanogpt", type=Path, default=os.environ.get("NANOGPT"), help="a checkout of karpathy/nanoGPT")
    parser.add_argument("--text", type=Path, default=TEXT)
    parser.add_argument("--steps", type=int, default=200)
    given = parser.parse_args()
    if not given.nanogpt:
        print("skipped: needs a checkout of karpathy/nanoGPT, as --nanogpt or NANOGPT")
        return
    figures, half = Figures(given), given.steps // 2
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        tokens = write_tokens(given.text, SHAPE.tokenizer, work)
        print("| program | compared with an uninterrupted run | max of weight differences | mean / max of loss differences |")
        print("|---|---|---|---|")
        for name, run in (
            ("ours", lambda out, parts: ours(tokens, work / out, parts, given.steps)),
            ("nanoGPT", lambda out, parts: theirs(given.nanogpt, work, work / out, parts, given.steps)),
        ):
            whole = run(f"{name}-whole", [given.steps])
            for what, parts in (("the same again", [given.steps]), (f"{half} steps and {half} more", [half, half])):
                weights, losses = compared(whole, run(f"{name}-{len(parts)}", parts), half)
                mean = statistics.mean(losses)
                print(f"| {name} | {what} | {weights:.3g} | {mean:.3g} / {max(losses):.3g} |", flush=True)
                figures.add("largest difference of a weight", f"{name}, {what}", weights)
                figures.add("differences of losses", f"{name}, {what}", *losses)
    figures.write()


def compared(whole: Outcome, other: Outcome, half: int) -> tuple[float, list[float]]:
    """The largest difference of a weight, and those of the losses from the step `half` on."""
    weights = max((tensor - other.weights[name]).abs().max().item() for name, tensor in whole.weights.items())
    return weights, [abs(loss - other.losses[step]) for step, loss in whole.losses.items() if step >= half]


def ours(tokens: Tokens, out: Path, parts: Sequence[int], steps: int) -> Outcome:
    for part in parts:
        settings = {
            "optimizer": "adamw", "dtype": "float32", "dropout": DROPOUT, "learning_rate": RATE, "warmup": 0,
            "weight_decay": 0.1, "max_iters": part, "total_iters": steps, "eval_interval": part, "checkpoint_interval": part,
        }  # fmt: skip
        command = our_command(SHAPE, tokens, out, **settings)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    newest = latest(out)
    assert newest
    assert newest.step == steps
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return Outcome({line["step"] - 1: line["loss"] for line in lines}, load_file(newest.path / "model.safetensors"))


def theirs(checkout: Path, work: Path, out: Path, parts: Sequence[int], steps: int) -> Outcome:
    """Its checkpoint of step N is written before the step after it, in every run alike."""
    losses: dict[int, float] = {}
    done = 0
    for part in parts:
        settings = {"dropout": DROPOUT, "max_iters": done + part, "eval_interval": steps // 2, "warmup_iters": 0}
        settings |= {"learning_rate": RATE, "beta2": 0.95, "init_from": "resume" if done else "scratch"}
        command = nanogpt_command(checkout, SHAPE, work, out, steps, **settings)
        said = subprocess.run(command, cwd=work, check=True, capture_output=True, text=True).stdout
        losses |= {int(step): float(loss) for step, loss in re.findall(r"iter (\d+): loss ([0-9.]+)", said)}
        done += part
    checkpoint = torch.load(out / "ckpt.pt", weights_only=True)
    assert checkpoint["iter_num"] == steps
    return Outcome({step: loss for step, loss in losses.items() if step < steps}, checkpoint["model"])


if __name__ == "__main__":
    main()
