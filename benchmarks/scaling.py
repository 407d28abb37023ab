"""Tokens per second of this package by the number of cores and of processes that share a batch.

    python benchmarks/scaling.py [--shapes baby,mid] [--cores 1,2] [--processes 1,2] [--turns 7] [--text FILE]

One process with each number of cores (OMP_NUM_THREADS), and each number of processes with all cores (`processes`, and several
with `sharding: full` too). AdamW, and the same model, batches and tokens everywhere. All take turns of a few seconds, and are
stopped (SIGSTOP) in between.
"""

import argparse
import os
import tempfile
from pathlib import Path

from common import results
from common.peers import SHAPES, TEXT, Program, Shape, end, our_program, take_turns, write_tokens
from common.results import Figures, machine, spread


def main() -> None:
    parser = results.parser(__doc__)
    cores = os.cpu_count() or 1
    parser.add_argument("--text", type=Path, default=TEXT)
    parser.add_argument("--shapes", default="baby,mid")
    parser.add_argument("--cores", default=f"1,{cores}", help="numbers of cores of one process")
    parser.add_argument("--processes", default=f"1,{cores}", help="numbers of processes; the batch must be divisible by each")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=5, help="length of a turn")
    given = parser.parse_args()
    figures = Figures(given)
    print(machine())
    print("| model | processes and cores | tokens/s (range) | of the first (range) |")
    print("|---|---|---|---|")
    for name in given.shapes.split(","):
        with tempfile.TemporaryDirectory() as folder:
            measure(name, SHAPES[name], given, Path(folder), figures)
    figures.write()


def measure(name: str, shape: Shape, given: argparse.Namespace, work: Path, figures: Figures) -> None:
    tokens = write_tokens(given.text, shape.tokenizer, work)

    def ours(variables: dict[str, str], **settings: object) -> Program:
        name = str(len(programs))
        return our_program(shape, tokens, work, name, variables, optimizer="adamw", compile="false", **settings)

    programs: dict[str, Program] = {}
    for cores in given.cores.split(","):
        programs[f"1 process, {cores} cores"] = ours({"OMP_NUM_THREADS": cores})
    for processes in sorted({*map(int, given.processes.split(","))} - {1}):
        programs[f"{processes} processes"] = ours({}, processes=processes)
        programs[f"{processes} processes, sharded"] = ours({}, processes=processes, sharding="full")
    rates = take_turns(programs, given.turns, given.seconds)
    end(programs)
    first = next(iter(rates.values()))
    for program, found in rates.items():
        ratios = [rate / other for rate, other in zip(found, first, strict=True)]
        print(f"| {name} | {program} | {spread(found, ',.0f')} | {spread(ratios, '.2f')} |", flush=True)
        figures.add("tokens/s", f"{name}: {program}", *found)
        figures.add("tokens/s, of the first's", f"{name}: {program}", *ratios)


if __name__ == "__main__":
    main()
