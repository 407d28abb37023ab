"""Half a run and the other half, against the whole run: this package's `train` and nanoGPT's own train.py on the same test.

    python benchmarks/resume.py --nanogpt PATH_OF_A_CHECKOUT [--text FILE] [--steps 200]

The same text, sizes and settings as in nanogpt.py, on the CPU in fp32, with dropout. Each program runs N steps at once, twice
over, to see that it repeats itself; and N/2 steps, and from its checkpoint N/2 more. Compared: the final weights, and the
training losses of the steps after the half. nanoGPT seeds its generator anew on every start, so that a continued run draws the
batches (and dropout) of its beginning again.
"""

import argparse
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from nanogpt import nanogpt_command, our_command, write_data
from safetensors.torch import load_file

from echoself_action.checkpoint.find import latest

DROPOUT = 0.1


@dataclass(frozen=True)
class Outcome:
    """Training loss by step, and the final weights."""

    losses: dict[int, float]
    weights: dict[str, torch.Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nanogpt", type=Path, default=os.environ.get("NANOGPT"), help="a checkout of karpathy/nanoGPT")
    parser.add_argument("--text", type=Path, default=Path("../shared/corpora/tinyshakespeare.txt"))
    parser.add_argument("--steps", type=int, default=200)
    given = parser.parse_args()
    if not given.nanogpt:
        print("not run: check out karpathy/nanoGPT and give its path with --nanogpt or NANOGPT")
        return
    half = given.steps // 2
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        data = write_data(given.text.resolve(), work)
        print("| program | compared with the run at once | max of weight differences | mean / max of loss differences |")
        print("|---|---|---|---|")
        for name, run in (
            ("ours", lambda out, parts: ours(data, work / out, parts, given.steps)),
            ("nanoGPT", lambda out, parts: theirs(given.nanogpt.resolve(), work, work / out, parts, given.steps)),
        ):
            whole = run(f"{name}-whole", [given.steps])
            for what, parts in (("the same again", [given.steps]), (f"{half} steps and {half} more", [half, half])):
                print(f"| {name} | {what} | {compared(whole, run(f'{name}-{len(parts)}', parts), half)} |", flush=True)


def compared(whole: Outcome, other: Outcome, half: int) -> str:
    weights = max((tensor - other.weights[name]).abs().max().item() for name, tensor in whole.weights.items())
    losses = [abs(loss - other.losses[step]) for step, loss in whole.losses.items() if step >= half]
    return f"{weights:.3g} | {sum(losses) / len(losses):.3g} / {max(losses):.3g}"


def ours(data: Path, out: Path, parts: Sequence[int], steps: int) -> Outcome:
    for part in parts:
        command = our_command(data, part, out)
        for name, value in {"--dropout": DROPOUT, "--total-iters": steps, "--warmup": 0}.items():
            command += [name, str(value)]
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
        command = nanogpt_command(checkout, work, steps, out)
        command += [f"--dropout={DROPOUT}", f"--max_iters={done + part}", f"--eval_interval={steps // 2}", "--warmup_iters=0"]
        command += ["--init_from=resume"] if done else []
        said = subprocess.run(command, cwd=work, check=True, capture_output=True, text=True).stdout
        losses |= {int(step): float(loss) for step, loss in re.findall(r"iter (\d+): loss ([0-9.]+)", said)}
        done += part
    checkpoint = torch.load(out / "ckpt.pt", weights_only=True)
    assert checkpoint["iter_num"] == steps
    return Outcome({step: loss for step, loss in losses.items() if step < steps}, checkpoint["model"])


if __name__ == "__main__":
    main()
