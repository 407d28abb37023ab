"""The same small model trained by this package and by nanoGPT's own train.py: held-out loss, speed, memory.

    python benchmarks/nanogpt.py --nanogpt PATH_OF_A_CHECKOUT [--text FILE] [--steps 2000] [--turns 12]

Both see the same bytes of the same text, split at 90%, the same sizes (4 layers, 4 heads, width 128, block 64, batch 12,
no biases, no dropout), steps, learning-rate schedule and fp32, eager, on the CPU. Both final models are evaluated by the
same function on the whole held-out text. For speed both programs run at the same time and take turns of a few seconds, the
other one stopped meanwhile, so that whatever else the machine does meets both alike; a step's time is the program's own figure,
without evaluations and start-up.
"""

import argparse
import importlib.util
import json
import os
import pickle
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

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
    parser.add_argument("--turns", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=5, help="of a turn")
    given = parser.parse_args()
    if not given.nanogpt:
        print("not run: check out karpathy/nanoGPT and give its path with --nanogpt or NANOGPT")
        return
    with tempfile.TemporaryDirectory() as folder:
        benchmark(given, Path(folder))


def benchmark(given: argparse.Namespace, work: Path) -> None:
    nanogpt = given.nanogpt.resolve()
    data = write_data(given.text.resolve(), work)
    peers = {
        "ours": Peer(our_command(data, 10**6, work / "ours-speed"), work, r'"tokens_per_second": ([0-9.]+)', float),
        "nanogpt": Peer(
            nanogpt_command(nanogpt, work, 10**6, work / "nano-speed"),
            work,
            r"time ([0-9.]+)ms",
            lambda ms: BATCH * BLOCK * 1000 / float(ms),
        ),
    }
    peers["ours"].log = work / "ours-speed/log.jsonl"
    speeds = take_turns(peers, given.turns, given.seconds)
    subprocess.run(nanogpt_command(nanogpt, work, given.steps, work / "nano"), cwd=work, check=True, stdout=subprocess.DEVNULL)
    early, late = run_ours(our_command(data, given.steps, work / "ours"), work / "ours")
    held_out = HeldOut(np.fromfile(data / "val.bin", np.uint16), BLOCK)
    theirs = held_out.loss(NanoGPT(nanogpt, work / "nano"))  # type: ignore[arg-type]
    folder = latest(work / "ours")
    assert folder
    ours = held_out.loss(folder.load_model())
    ratios = [mine / peer for mine, peer in zip(speeds["ours"], speeds["nanogpt"], strict=True)]
    figures = {
        "machine": f"{os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}",
        "steps": given.steps,
        "val_loss": {"ours": round(ours, 4), "nanogpt": round(theirs, 4), "ratio": round(ours / theirs, 4)},
        "tokens_per_second": {name: [round(value) for value in values] for name, values in speeds.items()},
        "speed_ratio": {"median": round(statistics.median(ratios), 3), "each": [round(ratio, 3) for ratio in ratios]},
        "resident_mb": {"at a quarter of the run": round(early), "at its end": round(late)},
    }
    print(json.dumps(figures, indent=2))


class Peer:
    """A training program that is let run and stopped again. Its log has a line a step, with a speed or a time in it."""

    def __init__(self, command: list[str], work: Path, pattern: str, speed: Callable[[str], float]) -> None:
        """`pattern` finds the figure of a step in the log, and `speed` makes tokens a second of it."""
        self.log = work / f"{len(command)}.log"
        self.pattern, self.speed = pattern, speed
        with self.log.open("w") as output:
            settings = os.environ | {"PYTHONUNBUFFERED": "1"}
            self.process = subprocess.Popen(command, cwd=work, stdout=output, stderr=subprocess.STDOUT, env=settings)

    def speeds(self) -> list[float]:
        found = re.findall(self.pattern, self.log.read_text()) if self.log.exists() else []
        return [self.speed(figure) for figure in found]


def take_turns(peers: dict[str, Peer], turns: int, seconds: float) -> dict[str, list[float]]:
    """Of each turn the median tokens a second of the steps that began and ended in it."""
    medians: dict[str, list[float]] = {name: [] for name in peers}
    try:
        for peer in peers.values():
            while len(peer.speeds()) < 20:
                if peer.process.poll() is not None:
                    raise SystemExit(peer.log.read_text())
                time.sleep(0.2)
            peer.process.send_signal(signal.SIGSTOP)
        for _ in range(turns):
            for name, peer in peers.items():
                before = len(peer.speeds())
                peer.process.send_signal(signal.SIGCONT)
                time.sleep(seconds)
                peer.process.send_signal(signal.SIGSTOP)
                medians[name].append(statistics.median(peer.speeds()[before + 1 :]))
    finally:
        for peer in peers.values():  # a stopped program would stay for ever
            peer.process.kill()
            peer.process.wait()
    return medians


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


def nanogpt_command(checkout: Path, work: Path, steps: int, out: Path) -> list[str]:
    settings = SIZES | {
        "dataset": "bytes", "out_dir": str(out), "device": "cpu", "compile": False, "dtype": "float32", "bias": False,
        "gradient_accumulation_steps": 1, "max_iters": steps, "lr_decay_iters": steps, "learning_rate": RATE,
        "min_lr": RATE / 10, "warmup_iters": WARMUP, "weight_decay": 0.1, "eval_interval": steps, "eval_iters": 1,
        "log_interval": 1, "always_save_checkpoint": True,
    }  # fmt: skip
    for name in ("train.py", "model.py", "configurator.py"):
        if not (work / name).exists():
            (work / name).symlink_to(checkout / name)
    return [sys.executable, "train.py", *(f"--{name}={value}" for name, value in settings.items())]


def our_command(data: Path, steps: int, out: Path) -> list[str]:
    settings = SIZES | {
        "data": f"{data}/train.bin,{data}/val.bin", "tokenizer": f"{data}/tokenizer.json", "output_dir": out,
        "dtype": "float32", "device": "cpu", "bias": False, "gradient_accumulation": 1, "max_iters": steps, "max_minutes": 0,
        "total_iters": steps, "checkpoint_minutes": 0,
        "learning_rate": RATE, "warmup": WARMUP, "weight_decay": 0.1, "eval_interval": steps, "eval_tokens": BLOCK * BATCH,
        "checkpoint_interval": steps, "log_interval": 1,
    }  # fmt: skip
    flags = [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    return [sys.executable, "-m", "echoself_action", "train", *flags]


def run_ours(command: list[str], out: Path) -> tuple[float, float]:
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


class NanoGPT(torch.nn.Module):
    """nanoGPT's model with the interface that the evaluation calls."""

    label_shift = 1

    def __init__(self, checkout: Path, out: Path) -> None:
        super().__init__()
        spec = importlib.util.spec_from_file_location("nanogpt_model", checkout / "model.py")
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        checkpoint = torch.load(out / "ckpt.pt", weights_only=True)
        self.gpt = module.GPT(module.GPTConfig(**checkpoint["model_args"]))
        self.config = self.gpt.config
        self.gpt.load_state_dict(checkpoint["model"])

    def loss(self, ids: torch.Tensor, targets: torch.Tensor, reduction: str) -> torch.Tensor:
        assert reduction == "sum"
        _, mean = self.gpt(ids.contiguous(), targets.contiguous())
        return mean * targets.numel()  # type: ignore[no-any-return]


if __name__ == "__main__":
    main()
