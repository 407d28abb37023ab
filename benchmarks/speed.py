"""Tokens per second of this package, nanoGPT, transformers' Trainer and litgpt, as shares of what this CPU can multiply.

    python benchmarks/speed.py [--nanogpt PATH_OF_A_CHECKOUT] [--isa avx2] [--shapes baby,mid,small] [--turns 7]
    python benchmarks/speed.py --shapes auto --dropout 0.1          # the model that `preset: auto` chooses for --text
    python benchmarks/speed.py --device cuda --nanogpt PATH_OF_A_CHECKOUT --shapes gpt2 --peak 989

All programs train the same model with the same batches and AdamW. This package uses the dtype of the instruction set (`ours`),
its default optimizer (`ours, muon`), or no native kernels (`ours, by PyTorch`). nanoGPT is eager in fp32, the Trainer has its
defaults, litgpt's model has tied embeddings and is trained as in its pretrain.py, without dropout. On a GPU nanoGPT is compiled
and all use bfloat16. `--isa` limits all of them, PyTorch, oneDNN and MKL included, to an instruction set, so that a larger CPU
serves as one whose best set that is.

All programs take turns of a few seconds, and are stopped (SIGSTOP) in between. So do the two that measure what this CPU can
multiply in that dtype: `FMA peak` runs the inner loop of our own kernels on operands in registers and the first cache, on as
many threads as PyTorch uses; `torch.mm` multiplies square matrices. Shares count 6 operations for each weight and token, and
attention's; with --peak they are shares of that (MFU). Memory is the peak resident set, without a GPU's.

Each turn is a line on stderr. The table on stdout is that of docs/performance.md: medians, and in parentheses the ranges of all
turns; ratios are taken turn by turn.
"""

import argparse
import importlib.util
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from common import results
from common.instruction_sets import add_isa, best_isa, limit_to, shown
from common.limits import FMA, MM, limits, ratios
from common.peers import (
    ENDLESS,
    SHAPES,
    TEXT,
    Program,
    Shape,
    Tokens,
    add_device,
    add_nanogpt,
    auto_shape,
    describe_nanogpt,
    end,
    nanogpt_command,
    nanogpt_on,
    our_program,
    take_turns,
    write_tokens,
)
from common.results import Figures, machine, print_row, spread

from echoself_action.training.precision import fastest_dtype, name_of

OURS, NANOGPT, TRANSFORMERS, LITGPT = "ours", "nanoGPT", "Trainer", "litgpt"
PROGRAMS = (OURS, "ours, muon", "ours, by PyTorch", "ours, compiled", NANOGPT, TRANSFORMERS, LITGPT)
COLUMNS = ("model", "program", "tokens/s", "of nanoGPT's", "of ours", "GFLOP/s", "", f"of {MM}'s", "peak memory, MB")

TRAINER_PROGRAM = """
import sys, time, torch
import numpy as np
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments
dropout = float(sys.argv[1])
device, folder, out, vocabulary, layers, heads, width, block, batch = sys.argv[2:5] + [int(word) for word in sys.argv[5:]]
tokens = np.fromfile(f"{folder}/train.bin", np.uint16).astype(np.int64)
rows = [{"input_ids": row, "labels": row} for row in torch.from_numpy(tokens[: len(tokens) // block * block]).view(-1, block)]
sizes = dict(vocab_size=vocabulary, n_positions=block, n_layer=layers, n_head=heads, n_embd=width)
rates = dict(resid_pdrop=dropout, embd_pdrop=dropout, attn_pdrop=dropout)
model = GPT2LMHeadModel(GPT2Config(**sizes, **rates, bos_token_id=0, eos_token_id=0))
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
LITGPT_PROGRAM = """
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
    add_isa(parser)
    parser.add_argument("--litgpt", type=Path, help="a Python with litgpt, whose dependencies conflict with ours")
    parser.add_argument("--peak", type=float, help="peak TFLOP/s of the device from its data sheet: shares are of it")
    parser.add_argument("--text", type=Path, default=TEXT)
    parser.add_argument("--shapes", default="baby,mid,small", help=f"of {', '.join(SHAPES)}, auto")
    parser.add_argument("--dropout", type=float, help="dropout of all models (default: none; of auto: what it chooses)")
    parser.add_argument("--only", action="append", choices=PROGRAMS, help="a program to measure; may be given several times")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=5, help="length of a turn")
    given = parser.parse_args()
    limit_to(given.isa)
    figures = Figures(given)
    kind = name_of(fastest_dtype(torch.device(given.device)))
    isa = best_isa() if given.device == "cpu" else None
    heading = [f"{shown(isa)}, {kind}" if isa else kind, machine(), describe_nanogpt(given.nanogpt)]
    print(f"{'; '.join(heading)}.\n", flush=True)
    print_row(*COLUMNS[:6], "MFU" if given.peak else f"of the {FMA}", *COLUMNS[7:])
    print("|---" * len(COLUMNS) + "|", flush=True)
    remarks = []
    for name in given.shapes.split(","):
        with tempfile.TemporaryDirectory() as folder:
            remarks += measure(name, given, kind, Path(folder), figures)
    print("", *remarks, sep="\n")
    figures.write()


def measure(name: str, given: argparse.Namespace, dtype: str, work: Path, figures: Figures) -> list[str]:
    """Measures a model and prints its rows. Returns remarks for below the table."""
    shape = auto_shape(given.text, work) if name == "auto" else SHAPES[name]
    if given.dropout is not None:
        shape = replace(shape, dropout=given.dropout)
    tokens = write_tokens(given.text, shape.tokenizer, work)
    programs = started(given, shape, tokens, dtype, work)

    def report(turn: int, rates: dict[str, float]) -> None:
        found = (f"{of} {rate / 1e9:.1f} GFLOP/s" if of in (FMA, MM) else f"{of} {rate:,.0f}" for of, rate in rates.items())
        print(f"{name}, turn {turn} of {given.turns}, tokens/s: {'; '.join(found)}", file=sys.stderr, flush=True)

    rates = take_turns(programs, given.turns, given.seconds, report)
    memory = {program: running.peak_mb() for program, running in programs.items()}
    end(programs)
    per_token = shape.flops_per_token(tokens.vocabulary)
    flops = {of: rate if of in (FMA, MM) else [one * per_token for one in rate] for of, rate in rates.items()}
    most = [given.peak * 1e12] * given.turns if given.peak else flops.get(FMA, [])
    label = shape.describe(tokens.name)
    for program in programs:
        limit = program in (FMA, MM)
        shares, of_mm = ratios(flops[program], most), ratios(flops[program], flops[MM])
        of_nanogpt, of_ours, of_trainer = (
            ratios(rates[program], [] if limit else rates.get(other, [])) for other in (NANOGPT, OURS, TRANSFORMERS)
        )
        print_row(
            label,
            program,
            "" if limit else spread(rates[program], ",.0f"),
            "1" if program == NANOGPT else spread(of_nanogpt, ".2f"),
            "1" if program == OURS else spread(of_ours, ".2f"),
            spread([one / 1e9 for one in flops[program]], ",.0f")
            if limit
            else f"{statistics.median(flops[program]) / 1e9:,.0f}",
            "100%" if program == FMA and not given.peak else spread(shares, ".0%"),
            "100%" if program == MM else spread(of_mm, ".0%"),
            "" if limit else f"{memory[program]:,.0f}",
        )
        label = ""
        of = f"{name}: {program}"
        figures.add("GFLOP/s", of, *(one / 1e9 for one in flops[program]))
        figures.add("MFU" if given.peak else f"share of the {FMA}", of, *shares)
        figures.add(f"share of {MM}'s rate", of, *of_mm)
        if not limit:
            figures.add("tokens/s", of, *rates[program])
            figures.add("tokens/s, of nanoGPT's", of, *of_nanogpt)
            figures.add("tokens/s, of ours", of, *of_ours)
            figures.add("tokens/s, of the Trainer's", of, *of_trainer)
            figures.add("peak memory, MB", of, memory[program])
    if TRANSFORMERS in programs:
        of_trainer = ratios(rates.get(OURS, []), rates[TRANSFORMERS])
        return [f"{name}: ours is {spread(of_trainer, '.2f')} times the Trainer's rate."] if of_trainer else []
    wanted = not given.only or TRANSFORMERS in given.only
    return [f"{name}: the Trainer was not measured, which needs `pip install accelerate`."] if wanted else []


def started(given: argparse.Namespace, shape: Shape, tokens: Tokens, dtype: str, work: Path) -> dict[str, Program]:
    """The programs, of which all run."""
    wanted = given.only or PROGRAMS
    programs = {}

    def ours(name: str, folder: str, native: bool = True, **settings: object) -> None:
        if name in wanted:
            settings = {"optimizer": "adamw", "compile": "false", "device": given.device, "dtype": dtype} | settings
            programs[name] = our_program(shape, tokens, work, folder, native=native, **settings)

    def per_second(milliseconds: str) -> float:
        return shape.batch_size * shape.block_size * 1000 / float(milliseconds)

    ours(OURS, "adamw")
    ours("ours, muon", "muon", optimizer="muon")
    if given.device == "cuda":
        ours("ours, compiled", "compiled", compile="true")
    else:
        ours("ours, by PyTorch", "plain", native=False)
    if NANOGPT in wanted:
        command = nanogpt_command(given.nanogpt, shape, work, work / "nano", ENDLESS, **nanogpt_on(given.device))
        programs[NANOGPT] = Program(command, work, work / "nano/log", r"time ([0-9.]+)ms", per_second)
    sizes = (tokens.padded, *shape.sizes.values(), shape.batch_size)
    if TRANSFORMERS in wanted and importlib.util.find_spec("accelerate"):  # the Trainer's own need
        places = (shape.dropout, given.device, tokens.folder, work / "trainer")
        command = [sys.executable, "-c", TRAINER_PROGRAM, *map(str, (*places, *sizes))]
        programs[TRANSFORMERS] = Program(command, work, work / "trainer/log", r"step took ([0-9.]+) ms", per_second)
    if LITGPT in wanted and given.litgpt:
        command = [str(given.litgpt), "-c", LITGPT_PROGRAM, *map(str, (given.device, tokens.folder, *sizes))]
        programs[LITGPT] = Program(command, work, work / "litgpt/log", r"step took ([0-9.]+) ms", per_second)
    return programs | limits(given.device, dtype, work)


if __name__ == "__main__":
    main()
