"""Tokens per second of a NanEcho of the sizes that 9cog's own runs train, as shares of what this CPU can multiply.

    python benchmarks/nanecho.py [--isa avx2] [--turns 7] [--text FILE]

4 layers, 4 heads, width 256, block 1024, batch 2, GPT-2's vocabulary, dropout 0.1, AdamW: 9cog's own program trains it at about
164 tokens/s on a hosted runner. The model stays as it is in the first steps of a long run: recursion depth 1, a tenth of the
connections. The programs take turns, as do those that measure the CPU's limits (see speed.py). The operations of a step are
those that torch.utils.flop_counter counts in PyTorch's computation of it. GPT-2's vocabulary is downloaded, or read from
TIKTOKEN_CACHE_DIR.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import torch
from common import results
from common.instruction_sets import add_isa, best_isa, limit_to, shown
from common.limits import FMA, MM, limits, ratios
from common.peers import ENDLESS, TEXT, Shape, end, our_program, take_turns, write_tokens
from common.results import Figures, machine, print_row, spread
from torch.utils.flop_counter import FlopCounterMode

from echoself_action.checkpoint.architectures import NANECHO
from echoself_action.training.precision import fastest_dtype, name_of

SHAPE = Shape(4, 4, 256, 1024, 2, "gpt2", dropout=0.1)
RUNNER = 164  # tokens/s of 9cog's own runs


def main() -> None:
    parser = results.parser(__doc__)
    add_isa(parser)
    parser.add_argument("--text", type=Path, default=TEXT)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=5, help="length of a turn")
    given = parser.parse_args()
    limit_to(given.isa)
    figures = Figures(given)
    dtype = name_of(fastest_dtype(torch.device("cpu")))
    isa = best_isa()
    print(f"{f'{shown(isa)}, {dtype}' if isa else dtype}; {machine()}.\n")
    print_row("program", "tokens/s", f"of {RUNNER}", "GFLOP/s", f"of the {FMA}", f"of {MM}'s", "peak memory, MB")
    print("|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        measure(given, dtype, Path(folder), figures)
    figures.write()


def measure(given: argparse.Namespace, dtype: str, work: Path, figures: Figures) -> None:
    tokens = write_tokens(given.text, SHAPE.tokenizer, work)
    per_token = flops_per_token(tokens.vocabulary)
    settings = {"architecture": "nanecho", "bias": True, "dtype": dtype}
    programs = {
        "ours": our_program(SHAPE, tokens, work, "ours", **settings),
        "ours, by PyTorch": our_program(SHAPE, tokens, work, "plain", native=False, **settings),
    } | limits("cpu", dtype, work)

    def report(turn: int, rates: dict[str, float]) -> None:
        found = (f"{name} {rate:,.0f}" for name, rate in rates.items() if name not in (FMA, MM))
        print(f"turn {turn} of {given.turns}, tokens/s: {'; '.join(found)}", file=sys.stderr, flush=True)

    rates = take_turns(programs, given.turns, given.seconds, report)
    memory = {name: program.peak_mb() for name, program in programs.items()}
    end(programs)
    for name, found in rates.items():
        limit = name in (FMA, MM)
        flops = found if limit else [rate * per_token for rate in found]
        shares, of_mm = ratios(flops, rates.get(FMA, [])), ratios(flops, rates[MM])
        print_row(
            name,
            "" if limit else spread(found, ",.0f"),
            "" if limit else spread([rate / RUNNER for rate in found], ".1f"),
            f"{statistics.median(flops) / 1e9:,.0f}",
            "100%" if name == FMA else spread(shares, ".0%"),
            "100%" if name == MM else spread(of_mm, ".0%"),
            "" if limit else f"{memory[name]:,.0f}",
        )
        figures.add("GFLOP/s", name, *(one / 1e9 for one in flops))
        figures.add(f"share of the {FMA}", name, *shares)
        if not limit:
            figures.add("tokens/s", name, *found)
            figures.add("peak memory, MB", name, memory[name])


def flops_per_token(vocabulary: int) -> float:
    """Of a training step, forward and backward."""
    sizes = SHAPE.sizes | {"vocab_size": vocabulary, "dropout": SHAPE.dropout, "bias": True}
    model = NANECHO.new_model(NANECHO.config.new_config(sizes, dict.fromkeys(NANECHO.own_inputs), ENDLESS))
    model.advance(0)
    ids = torch.zeros(1, SHAPE.block_size, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter:
        model.loss(ids, ids).backward()
    return float(counter.get_total_flops() / SHAPE.block_size)


if __name__ == "__main__":
    main()
