"""Tokens per second of this package, nanoGPT, transformers' Trainer and litgpt, and their share of the device's matrix rate.

    python benchmarks/speed.py [--nanogpt PATH_OF_A_CHECKOUT] [--litgpt PYTHON] [--fp32] [--shapes baby,mid,small] [--turns 7]
    python benchmarks/speed.py --device cuda --nanogpt PATH_OF_A_CHECKOUT --shapes gpt2 --peak 989

All programs train the same model with the same batches and AdamW. This package uses the dtype that it chooses (`ours`), its
default optimizer (`ours, muon`), no native kernels (`ours, by PyTorch`), or with --fp32 the dtype of a CPU without bfloat16
products (`ours, in fp32`). nanoGPT is eager in fp32, the Trainer has its defaults, litgpt's model has tied embeddings and is
trained as in its pretrain.py; on a GPU nanoGPT is compiled, and all use bfloat16. All programs take turns of a few seconds,
and are stopped (SIGSTOP) in between. `gemm` multiplies square matrices in bfloat16, or in fp32 where that is faster:
its rate is the device's. Shares of
it count 6 operations for each weight and token, and attention's; with --peak they are shares of that, which is the MFU. Memory
is the peak resident set, without a GPU's.
"""

import argparse
import importlib.util
import sys
import tempfile
from pathlib import Path

from common import results
from common.peers import (
    ENDLESS,
    SHAPES,
    TEXT,
    Program,
    Shape,
    add_device,
    add_nanogpt,
    describe_nanogpt,
    end,
    nanogpt_command,
    nanogpt_on,
    our_program,
    take_turns,
    write_tokens,
)
from common.results import Figures, machine, spread

GEMM = """
import sys, time, torch
device = sys.argv[1]
def seconds(size, dtype, times):
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    torch.mm(a, b)
    if device == "cuda": torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(times): torch.mm(a, b)
    if device == "cuda": torch.cuda.synchronize()
    return time.perf_counter() - began
dtype = min((torch.bfloat16, torch.float32), key=lambda dtype: seconds(256, dtype, 4))
size, largest = 256, 8192 if device == "cuda" else 2048
while size < largest and seconds(size, dtype, 4) < 0.25: size *= 2  # a figure takes 2 s at most
while True:
    print(f"{4 * 2 * size**3 / seconds(size, dtype, 4):.4e} per second", flush=True)
"""
TRAINER = """
import sys, time, torch
import numpy as np
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments
device, folder, out, vocabulary, layers, heads, width, block, batch = sys.argv[1:4] + [int(word) for word in sys.argv[4:]]
tokens = np.fromfile(f"{folder}/train.bin", np.uint16).astype(np.int64)
rows = [{"input_ids": row, "labels": row} for row in torch.from_numpy(tokens[: len(tokens) // block * block]).view(-1, block)]
sizes = dict(vocab_size=vocabulary, n_positions=block, n_layer=layers, n_head=heads, n_embd=width)
model = GPT2LMHeadModel(GPT2Config(**sizes, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0))
class Timer(TrainerCallback):
    def on_step_begin(self, *_, **__): self.began = time.perf_counter()
    def on_step_end(self, *_, **__):
        if device == "cuda": torch.cuda.synchronize()
        print(f"step took {1000 * (time.perf_counter() - self.began):.2f} ms", flush=True)
settings = dict(per_device_train_batch_size=batch, max_steps=10**6, save_strategy="no", report_to=[],
    use_cpu=device == "cpu", bf16=device == "cuda", learning_rate=1e-3, logging_strategy="no", disable_tqdm=True)
Trainer(model, TrainingArguments(out, **settings), train_dataset=rows, callbacks=[Timer()]).train()
"""

# as in its pretrain.py: compiled, with its own loss, in fp32 on a CPU
LITGPT = """
import sys, time, torch
import numpy as np
from litgpt.config import Config
from litgpt.model import GPT
from litgpt.utils import chunked_cross_entropy
device, folder, vocabulary, layers, heads, width, block, batch = sys.argv[1:3] + [int(word) for word in sys.argv[3:]]
tokens = torch.from_numpy(np.fromfile(f"{folder}/train.bin", np.uint16).astype(np.int64))
sizes = dict(block_size=block, n_layer=layers, n_head=heads, n_embd=width, vocab_size=vocabulary, padded_vocab_size=vocabulary)
with torch.device(device):
    model = GPT(Config(name="gpt", parallel_residual=False, bias=False, **sizes))
model.transformer.wte.weight = model.lm_head.weight
compiled = torch.compile(model)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=device == "cuda")
while True:
    began = time.perf_counter()
    starts = torch.randint(len(tokens) - block - 1, (batch,))
    rows = torch.stack([tokens[start : start + block + 1] for start in starts.tolist()]).to(device)
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        loss = chunked_cross_entropy(compiled(rows[:, :-1].contiguous()), rows[:, 1:].contiguous())
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    loss.item()
    print(f"step took {1000 * (time.perf_counter() - began):.2f} ms", flush=True)
"""


def main() -> None:
    parser = results.parser(__doc__)
    add_nanogpt(parser)
    add_device(parser)
    parser.add_argument("--litgpt", type=Path, help="a Python with litgpt, whose dependencies conflict with ours")
    parser.add_argument("--fp32", action="store_true", help="measure ours in fp32 too")
    parser.add_argument(
        "--peak", type=float, help="peak TFLOP/s of the device from its data sheet: shares are of it instead of gemm's"
    )
    parser.add_argument("--text", type=Path, default=TEXT)
    parser.add_argument("--shapes", default="baby,mid,small")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=5, help="length of a turn")
    given = parser.parse_args()
    figures = Figures(given)
    print(f"{machine()}; {describe_nanogpt(given.nanogpt)}")
    print(
        "| model | program | tokens/s (range) | of nanoGPT's (range) | of the Trainer's (range) | share of gemm (range) | "
        "peak memory, MB |"
    )
    print("|---|---|---|---|---|---|---|")
    for name in given.shapes.split(","):
        with tempfile.TemporaryDirectory() as folder:
            measure(name, SHAPES[name], given, Path(folder), figures)
    figures.write()


def measure(name: str, shape: Shape, given: argparse.Namespace, work: Path, figures: Figures) -> None:
    tokens = write_tokens(given.text, shape.tokenizer, work)
    per_step = shape.batch_size * shape.block_size

    def ours(name: str, native: bool = True, **settings: object) -> Program:
        return our_program(shape, tokens, work, name, native=native, device=given.device, **settings)

    def per_second(milliseconds: str) -> float:
        return per_step * 1000 / float(milliseconds)

    programs = {
        "ours": ours("adamw", optimizer="adamw", compile="false"),
        "ours, muon": ours("muon", optimizer="muon", compile="false"),
    }
    if given.device == "cuda":
        programs["ours, compiled"] = ours("compiled", optimizer="adamw", compile="true")
    else:
        programs["ours, by PyTorch"] = ours("plain", native=False, optimizer="adamw", compile="false")
    if given.fp32:
        programs["ours, in fp32"] = ours("fp32", dtype="float32", optimizer="adamw", compile="false")
    command = nanogpt_command(given.nanogpt, shape, work, work / "nano", ENDLESS, **nanogpt_on(given.device))
    programs["nanoGPT"] = Program(command, work, work / "nano/log", r"time ([0-9.]+)ms", per_second)
    sizes = (tokens.padded, *shape.sizes.values(), shape.batch_size)
    if importlib.util.find_spec("accelerate"):  # the Trainer's own need
        places = (given.device, tokens.folder, work / "trainer")
        command = [sys.executable, "-c", TRAINER, *map(str, (*places, *sizes))]
        programs["Trainer"] = Program(command, work, work / "trainer/log", r"step took ([0-9.]+) ms", per_second)
    if given.litgpt:
        command = [str(given.litgpt), "-c", LITGPT, *map(str, (given.device, tokens.folder, *sizes))]
        programs["litgpt"] = Program(command, work, work / "litgpt/log", r"step took ([0-9.]+) ms", per_second)
    programs["gemm"] = Program(
        [sys.executable, "-c", GEMM, given.device], work, work / "gemm/log", r"([0-9.e+]+) per second", float
    )
    rates = take_turns(programs, given.turns, given.seconds)
    peaks = {program: running.peak_mb() for program, running in programs.items()}
    end(programs)
    for program in programs:
        if program == "gemm":
            continue
        work_done = [rate * shape.flops_per_token(tokens.vocabulary) for rate in rates[program]]
        most = [given.peak * 1e12] * given.turns if given.peak else rates["gemm"]
        shares = [done / possible for done, possible in zip(work_done, most, strict=True)]
        ratios = _ratios(rates, program, "nanoGPT")
        of_trainer = _ratios(rates, program, "Trainer")
        print(
            f"| {name} | {program} | {spread(rates[program], ',.0f')} | {spread(ratios, '.2f')} | "
            f"{spread(of_trainer, '.2f')} | {spread(shares, '.0%')} | {peaks[program]:.0f} |",
            flush=True,
        )
        figures.add("tokens/s", f"{name}: {program}", *rates[program])
        figures.add("tokens/s, of nanoGPT's", f"{name}: {program}", *ratios)
        figures.add("tokens/s, of the Trainer's", f"{name}: {program}", *of_trainer)
        figures.add("share of gemm", f"{name}: {program}", *shares)
        figures.add("peak memory, MB", f"{name}: {program}", peaks[program])
    if "Trainer" not in programs:
        print(f"| {name} | Trainer | not run: pip install accelerate | | | | |")


def _ratios(rates: dict[str, list[float]], program: str, other: str) -> list[float]:
    """For each turn; empty if the other program was not run."""
    return [rate / its for rate, its in zip(rates[program], rates.get(other, []), strict=False)]


if __name__ == "__main__":
    main()
