"""The rates of matrix products that limit training: of this CPU's instructions, and of torch.mm."""

import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from echoself_action import native

from .peers import Program

FMA, MM = "FMA peak", "torch.mm"

# Our kernel's inner loop on operands in registers and the first cache, on as many threads at once as PyTorch uses
_FMA = """
import sys, threading, time, torch
from echoself_action import native
peak = native.kernels(getattr(torch, sys.argv[1])).peak  # ctypes releases the GIL
count, threads = 1000, torch.get_num_threads()
def seconds():
    began = time.perf_counter()
    peak(count)
    return time.perf_counter() - began
while seconds() < 0.1: count *= 2
barrier, done, ends = threading.Barrier(threads + 1), [0.0] * threads, [0.0] * threads
def compute(number):
    while True:
        barrier.wait()
        done[number] = peak(count)
        ends[number] = time.perf_counter()
        barrier.wait()
for number in range(threads): threading.Thread(target=compute, args=(number,), daemon=True).start()
while True:
    began = time.perf_counter()
    barrier.wait()
    barrier.wait()
    print(f"{sum(done) / (max(ends) - began):.4e} per second", flush=True)
"""
# Square matrices, as large as a product takes 0.1 s, up to a size where it does not get faster
_MM = """
import sys, time, torch
device, dtype = sys.argv[1], getattr(torch, sys.argv[2])
def seconds(a, b):
    began = time.perf_counter()
    torch.mm(a, b)
    if device == "cuda": torch.cuda.synchronize()
    return time.perf_counter() - began
size, largest = 128, 8192 if device == "cuda" else 2048
while True:
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    seconds(a, b)
    if size == largest or seconds(a, b) > 0.1: break
    size *= 2
while True: print(f"{2 * size**3 / seconds(a, b):.4e} per second", flush=True)
"""


def limits(device: str, dtype: str, work: Path) -> dict[str, Program]:
    """The programs that measure the limits in `dtype`, in FLOP/s: FMA (not for a GPU, or without our kernels) and MM."""
    programs = {}
    figure = r"([0-9.e+]+) per second"
    if device == "cpu" and native.instruction_set(getattr(torch, dtype)):
        programs[FMA] = Program([sys.executable, "-c", _FMA, dtype], work, work / "fma/log", figure, float)
    programs[MM] = Program([sys.executable, "-c", _MM, device, dtype], work, work / "mm/log", figure, float)
    return programs


def ratios(rates: Sequence[float], others: Sequence[float]) -> list[float]:
    """For each turn; empty if the others were not measured."""
    return [rate / other for rate, other in zip(rates, others, strict=True)] if others else []
