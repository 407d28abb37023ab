"""The same small model trained by this package and by nanoGPT's own train.py: held-out loss, speed, memory.

    python benchmarks/nanogpt.py --nanogpt PATH_OF_A_CHECKOUT [--text FILE] [--steps 2000] [--rounds 3]

Both see the same bytes of the same text, split at 90%, the same sizes (4 layers, 4 heads, width 128, block 64, batch 12,
no biases, no dropout), steps, learning-rate schedule and fp32, eager, on the CPU. Both final models are evaluated by the
same function on the whole held-out text. Speed is measured in short runs that take turns; a step's time is the program's
own figure, without evaluations and start-up.
"""

import argparse
import importlib.util
import json
import os
import pickle
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from echoself_action.checkpoint.find import latest
from echoself_action.corpus.tokenizer import make_tokenizer
from echoself_action.evaluation.loss import HeldOut

BLOCK, BATCH, VOCABULARY = 64, 12, 257
SIZES = {"n_layer": 4, "n_head": 4, "n_embd": 128, "block_size": BLOCK, "batch_size": BATCH, "dropout": 0.0}
WARMUP, RATE = 100, 1e-3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nanogpt", type=Path, default=os.environ.get("NANOGPT"), help="a checkout of karpathy/nanoGPT")
    parser.add_argument("--text", type=Path, default=Path("../shared/corpora/tinyshakespeare.txt"))
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--round-steps", type=int, default=300)
    given = parser.parse_args()
    if not given.nanogpt:
        print("not run: check out karpathy/nanoGPT and give its path with --nanogpt or NANOGPT")
        return
    with tempfile.TemporaryDirectory() as folder:
        benchmark(given.nanogpt.resolve(), given.text.resolve(), given.steps, given.rounds, given.round_steps, Path(folder))


def benchmark(nanogpt: Path, text: Path, steps: int, rounds: int, round_steps: int, work: Path) -> None:
    data = write_data(text, work)
    speeds: dict[str, list[float]] = {"ours": [], "nanogpt": []}
    for number in range(rounds):
        speeds["nanogpt"].append(run_nanogpt(nanogpt, work, round_steps, work / f"nano{number}"))
        speeds["ours"].append(run_ours(data, round_steps, work / f"ours{number}")[0])
    run_nanogpt(nanogpt, work, steps, work / "nano")
    _, memory = run_ours(data, steps, work / "ours")
    held_out = HeldOut(np.fromfile(data / "val.bin", np.uint16), BLOCK)
    theirs = held_out.loss(NanoGPT(nanogpt, work / "nano"))  # type: ignore[arg-type]
    folder = latest(work / "ours")
    assert folder
    ours = held_out.loss(folder.load_model())
    ratios = [mine / peer for mine, peer in zip(speeds["ours"], speeds["nanogpt"], strict=True)]
    early, late = memory
    figures = {
        "machine": f"{os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}",
        "steps": steps,
        "val_loss": {"ours": round(ours, 4), "nanogpt": round(theirs, 4), "ratio": round(ours / theirs, 4)},
        "tokens_per_second": {name: [round(value) for value in values] for name, values in speeds.items()},
        "speed_ratio": {"median": round(statistics.median(ratios), 3), "each": [round(ratio, 3) for ratio in ratios]},
        "resident_mb": {"at a quarter of the run": round(early), "at its end": round(late)},
    }
    print(json.dumps(figures, indent=2))


def write_data(text: Path, work: Path) -> Path:
    """nanoGPT's layout: data/<name>/{train,val}.bin and the size of the vocabulary; a tokenizer.json for ours."""
    data = work / "data/bytes"
    data.mkdir(parents=True)
    content = np.frombuffer(text.read_bytes(), np.uint8).astype(np.uint16)
    cut = int(len(content) * 0.9)
    content[:cut].tofile(data / "train.bin")
    content[cut:].tofile(data / "val.bin")
    (data / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": VOCABULARY}))
    make_tokenizer("bytes", lambda: iter(())).save(data)
    return data


def run_nanogpt(checkout: Path, work: Path, steps: int, out: Path) -> float:
    """Tokens a second, from the median time that its train.py prints of a step."""
    settings = SIZES | {
        "dataset": "bytes", "out_dir": str(out), "device": "cpu", "compile": False, "dtype": "float32", "bias": False,
        "gradient_accumulation_steps": 1, "max_iters": steps, "lr_decay_iters": steps, "learning_rate": RATE,
        "min_lr": RATE / 10, "warmup_iters": WARMUP, "weight_decay": 0.1, "eval_interval": steps, "eval_iters": 1,
        "log_interval": 1, "always_save_checkpoint": True,
    }  # fmt: skip
    link = work / "train.py"
    if not link.exists():
        for name in ("train.py", "model.py", "configurator.py"):
            (work / name).symlink_to(checkout / name)
    flags = [f"--{name}={value}" for name, value in settings.items()]
    printed = subprocess.run([sys.executable, "train.py", *flags], cwd=work, check=True, capture_output=True, text=True).stdout
    times = [float(found) for found in re.findall(r"time ([0-9.]+)ms", printed)][10:-1]
    return BATCH * BLOCK / statistics.median(times) * 1000


def run_ours(data: Path, steps: int, out: Path) -> tuple[float, tuple[float, float]]:
    """Tokens a second, from the median of the log's lines, and resident MB at a quarter of the run and at its end."""
    settings = SIZES | {
        "data": f"{data}/train.bin,{data}/val.bin", "tokenizer": f"{data}/tokenizer.json", "output_dir": out,
        "dtype": "float32", "device": "cpu", "bias": False, "gradient_accumulation": 1, "max_iters": steps, "max_minutes": 0,
        "learning_rate": RATE, "warmup": WARMUP, "weight_decay": 0.1, "eval_interval": steps, "eval_tokens": BLOCK * BATCH,
        "checkpoint_interval": steps, "log_interval": 10,
    }  # fmt: skip
    flags = [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    process = subprocess.Popen([sys.executable, "-m", "echoself_action", "train", *flags], stdout=subprocess.DEVNULL)
    resident: dict[int, float] = {}
    while process.poll() is None:
        time.sleep(0.1)
        resident[lines_of(out)] = resident_mb(process.pid) or resident.get(lines_of(out), 0.0)
    if process.returncode:
        raise SystemExit(f"our run ended with {process.returncode}")
    log: list[dict[str, Any]] = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    quarter = [value for lines, value in resident.items() if lines >= len(log) // 4]
    speed = statistics.median(line["tokens_per_second"] for line in log[1:])
    return speed, (quarter[0], [value for value in quarter if value][-1])


def lines_of(out: Path) -> int:
    log = out / "log.jsonl"
    return log.read_text().count("\n") if log.exists() else 0


def resident_mb(pid: int) -> float:
    try:
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


class NanoGPT(torch.nn.Module):
    """nanoGPT's model with the interface that the evaluation calls."""

    def __init__(self, checkout: Path, out: Path) -> None:
        super().__init__()
        spec = importlib.util.spec_from_file_location("nanogpt_model", checkout / "model.py")
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        checkpoint = torch.load(out / "ckpt.pt", weights_only=True)
        self.gpt = module.GPT(module.GPTConfig(**checkpoint["model_args"]))
        self.gpt.load_state_dict(checkpoint["model"])

    def loss(self, ids: torch.Tensor, targets: torch.Tensor, reduction: str) -> torch.Tensor:
        assert reduction == "sum"
        _, mean = self.gpt(ids.contiguous(), targets.contiguous())
        return mean * targets.numel()  # type: ignore[no-any-return]


if __name__ == "__main__":
    main()
