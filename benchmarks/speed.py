"""Tokens a second of this package, nanoGPT's train.py and transformers' Trainer, and the share of what the CPU can multiply.

    python benchmarks/speed.py [--nanogpt PATH_OF_A_CHECKOUT] [--shapes baby,mid,small] [--turns 7] [--text FILE]

The same model, batches and AdamW everywhere; this package in the dtype that it chooses (`ours`, and with its own default
optimizer `ours, muon`), nanoGPT eager in fp32, the Trainer with its defaults. All programs run at the same time and take turns
of a few seconds, the others stopped meanwhile. `gemm` multiplies square bfloat16 matrices: its rate is the CPU's. Shares of it
count 6 operations for each weight and token, and attention's. Memory is the peak resident set.
"""

import argparse
import importlib.util
import sys
import tempfile
from pathlib import Path

import results
from peers import (
    SHAPES,
    TEXT,
    Program,
    Shape,
    add_nanogpt,
    end,
    nanogpt_command,
    nanogpt_in_words,
    our_command,
    take_turns,
    write_tokens,
)
from results import Figures, machine, spread

ENDLESS = 10**6
GEMM = """
import time, torch
a, b = (torch.randn(2048, 2048).bfloat16() for _ in range(2))
while True:
    began = time.perf_counter()
    for _ in range(4): torch.mm(a, b)
    print(f"{4 * 2 * 2048**3 / (time.perf_counter() - began):.4e} per second", flush=True)
"""
TRAINER = """
import sys, time, torch
import numpy as np
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments
folder, out, vocabulary, layers, heads, width, block, batch = sys.argv[1:3] + [int(word) for word in sys.argv[3:]]
tokens = np.fromfile(f"{folder}/train.bin", np.uint16).astype(np.int64)
rows = [{"input_ids": row, "labels": row} for row in torch.from_numpy(tokens[: len(tokens) // block * block]).view(-1, block)]
sizes = dict(vocab_size=vocabulary, n_positions=block, n_layer=layers, n_head=heads, n_embd=width)
model = GPT2LMHeadModel(GPT2Config(**sizes, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0))
class Timer(TrainerCallback):
    def on_step_begin(self, *_, **__): self.began = time.perf_counter()
    def on_step_end(self, *_, **__): print(f"step took {1000 * (time.perf_counter() - self.began):.2f} ms", flush=True)
settings = dict(per_device_train_batch_size=batch, max_steps=10**6, save_strategy="no", report_to=[], use_cpu=True,
    learning_rate=1e-3, logging_strategy="no", disable_tqdm=True)
Trainer(model, TrainingArguments(out, **settings), train_dataset=rows, callbacks=[Timer()]).train()
"""


def main() -> None:
    parser = results.parser(__doc__)
    add_nanogpt(parser)
    parser.add_argument("--text", type=Path, default=TEXT)
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=5, help="of a turn")
    given = parser.parse_args()
    figures = Figures(given)
    print(f"{machine()}; {nanogpt_in_words(given.nanogpt)}")
    print("| model | program | tokens/s (range) | of nanoGPT's (range) | share of gemm (range) | peak memory, MB |")
    print("|---|---|---|---|---|---|")
    for name in given.shapes.split(","):
        with tempfile.TemporaryDirectory() as folder:
            measure(name, SHAPES[name], given, Path(folder), figures)
    figures.write()


def measure(name: str, shape: Shape, given: argparse.Namespace, work: Path, figures: Figures) -> None:
    tokens = write_tokens(given.text, shape.tokenizer, work)
    per_step = shape.batch_size * shape.block_size
    endless = {"max_iters": ENDLESS, "eval_interval": ENDLESS, "checkpoint_interval": ENDLESS}
    own = r'"tokens_per_second": ([0-9.]+)'

    def ours(folder: str, **settings: object) -> Program:
        command = our_command(shape, tokens, work / folder, learning_rate=1e-3, **endless, **settings)
        return Program(command, work, work / folder / "log.jsonl", own, float)

    def per_second(milliseconds: str) -> float:
        return per_step * 1000 / float(milliseconds)

    programs = {"ours": ours("adamw", optimizer="adamw"), "ours, muon": ours("muon", optimizer="muon")}
    command = nanogpt_command(given.nanogpt, shape, work, work / "nano", ENDLESS)
    programs["nanoGPT"] = Program(command, work, work / "nano/log", r"time ([0-9.]+)ms", per_second)
    if importlib.util.find_spec("accelerate"):  # the Trainer's own need
        sizes = (tokens.padded, *shape.sizes.values(), shape.batch_size)
        command = [sys.executable, "-c", TRAINER, str(tokens.folder), str(work / "trainer"), *map(str, sizes)]
        programs["Trainer"] = Program(command, work, work / "trainer/log", r"step took ([0-9.]+) ms", per_second)
    programs["gemm"] = Program([sys.executable, "-c", GEMM], work, work / "gemm/log", r"([0-9.e+]+) per second", float)
    rates = take_turns(programs, given.turns, given.seconds)
    peaks = {program: running.peak_mb() for program, running in programs.items()}
    end(programs)
    for program in programs:
        if program == "gemm":
            continue
        work_done = [rate * shape.flops_per_token(tokens.vocabulary) for rate in rates[program]]
        shares = [done / most for done, most in zip(work_done, rates["gemm"], strict=True)]
        ratios = [rate / other for rate, other in zip(rates[program], rates.get("nanoGPT", []), strict=False)]
        print(
            f"| {name} | {program} | {spread(rates[program], ',.0f')} | {spread(ratios, '.2f')} | {spread(shares, '.0%')} | "
            f"{peaks[program]:.0f} |",
            flush=True,
        )
        figures.add("tokens/s", f"{name}: {program}", *rates[program])
        figures.add("tokens/s, of nanoGPT's", f"{name}: {program}", *ratios)
        figures.add("share of gemm", f"{name}: {program}", *shares)
        figures.add("peak memory, MB", f"{name}: {program}", peaks[program])
    if "Trainer" not in programs:
        print(f"| {name} | Trainer | not run: pip install accelerate | | | |")


if __name__ == "__main__":
    main()
