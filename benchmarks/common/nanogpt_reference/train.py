"""nanoGPT's training loop on a CPU, with its options, its schedule, its log lines and its ckpt.pt, in plain PyTorch.

    python train.py --dataset=NAME --out_dir=FOLDER --n_layer=4 --n_head=4 --n_embd=128 --block_size=64 --max_iters=2000 ...

It reads data/NAME/{train,val}.bin and meta.pkl of the current folder, runs eagerly in fp32, and takes AdamW's steps.
"""

import argparse
import math
import pickle
import time
from pathlib import Path

import numpy as np
import torch
from model import GPT, GPTConfig

torch.manual_seed(1337)
SIZES = {"n_layer": 4, "n_head": 4, "n_embd": 128, "block_size": 64, "dropout": 0.0}
COUNTS = {"batch_size": 12, "gradient_accumulation_steps": 1, "max_iters": 2000, "eval_interval": 2000, "eval_iters": 1}
COUNTS |= {"log_interval": 1, "warmup_iters": 100, "lr_decay_iters": 2000}
RATES = {"learning_rate": 1e-3, "min_lr": 1e-4, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.1, "grad_clip": 1.0}
FIXED = {"device": "cpu", "compile": "False", "dtype": "float32", "bias": "False"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--out_dir", type=Path, required=True)
    parser.add_argument("--init_from", choices=["scratch"], default="scratch")
    for name, value in {**SIZES, **COUNTS, **RATES}.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    for name, only in FIXED.items():
        parser.add_argument(f"--{name}", choices=[only], default=only)
    parser.add_argument("--always_save_checkpoint", choices=["True", "False"], default="True")
    given = parser.parse_args()
    folder = Path("data") / given.dataset
    data = {part: np.memmap(folder / f"{part}.bin", np.uint16, "r") for part in ("train", "val")}
    vocabulary = pickle.loads((folder / "meta.pkl").read_bytes())["vocab_size"]  # noqa: S301  # benchmarks/common/peers.py wrote it
    sizes = {name: getattr(given, name) for name in SIZES} | {"vocab_size": vocabulary, "bias": False}
    model = GPT(GPTConfig(**sizes))
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": given.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=given.learning_rate, betas=(given.beta1, given.beta2))
    began, best = time.time(), 1e9
    for step in range(given.max_iters + 1):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, given)
        if step % given.eval_interval == 0:
            losses = {part: held(model, tokens, given) for part, tokens in data.items()}
            print(f"step {step}: train loss {losses['train']:.4f}, val loss {losses['val']:.4f}", flush=True)
            improved, best = losses["val"] < best, min(best, losses["val"])
            if step and (improved or given.always_save_checkpoint == "True"):
                save(model, optimizer, sizes, step, best, given)
        if step == given.max_iters:
            break
        for _ in range(given.gradient_accumulation_steps):
            _, loss = model(*batch(data["train"], given))
            (loss / given.gradient_accumulation_steps).backward()
        torch.nn.utils.clip_grad_norm_(parameters, given.grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        took, began = time.time() - began, time.time()
        if step % given.log_interval == 0:
            print(f"iter {step}: loss {loss.item():.4f}, time {1000 * took:.2f}ms, mfu -100.00%", flush=True)


def batch(tokens: np.memmap, given: argparse.Namespace) -> tuple[torch.Tensor, torch.Tensor]:
    """Sequences from random places, and the same one token later: (batch_size, block_size) each."""
    places = torch.randint(len(tokens) - given.block_size, (given.batch_size,)).tolist()
    rows = torch.stack([torch.from_numpy(tokens[at : at + given.block_size + 1].astype(np.int64)) for at in places])
    return rows[:, :-1], rows[:, 1:]


def rate(step: int, given: argparse.Namespace) -> float:
    """Linear warmup, then a cosine to `min_lr`."""
    if step < given.warmup_iters:
        return float(given.learning_rate * (step + 1) / (given.warmup_iters + 1))
    progress = min(1.0, (step - given.warmup_iters) / max(1, given.lr_decay_iters - given.warmup_iters))
    return float(given.min_lr + 0.5 * (1 + math.cos(math.pi * progress)) * (given.learning_rate - given.min_lr))


@torch.no_grad()
def held(model: GPT, tokens: np.memmap, given: argparse.Namespace) -> float:
    """The mean loss of `eval_iters` batches."""
    model.eval()
    mean = sum(model(*batch(tokens, given))[1].item() for _ in range(given.eval_iters)) / given.eval_iters
    model.train()
    return mean


def save(
    model: GPT, optimizer: torch.optim.Optimizer, sizes: dict[str, object], step: int, best: float, given: argparse.Namespace
) -> None:
    given.out_dir.mkdir(parents=True, exist_ok=True)
    config = {name: str(value) if isinstance(value, Path) else value for name, value in vars(given).items()}
    content = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "model_args": sizes}
    torch.save(content | {"iter_num": step, "best_val_loss": best, "config": config}, given.out_dir / "ckpt.pt")


if __name__ == "__main__":
    main()
