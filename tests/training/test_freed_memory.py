"""keep_freed_memory: memory freed by a step is reused without page faults, and released to the system afterwards."""

import subprocess
import sys

import pytest

# A step like that of a small model: blocks of many sizes, freed in another order than they were allocated. In the baseline
# every block is mapped separately, so its page faults do not depend on the layout of the heap. Without huge pages, a fault is
# one page.
CODE = """
import ctypes, resource, sys
from contextlib import nullcontext
import torch
from echoself_action.training.memory import keep_freed_memory
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
def step():
    blocks = [torch.ones((i % 7 + 1) << 16) for i in range(100)]
    blocks[::2] = [None] * 50
PR_SET_THP_DISABLE, M_MMAP_THRESHOLD = 41, -3
ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)
ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 17)
with keep_freed_memory() if sys.argv[1] == "kept" else nullcontext():
    for _ in range(3):
        step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        step()
    faults, during = (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 5, resident()
print(faults, during - resident())
"""


def faults_and_released(way: str) -> tuple[float, int]:
    """Page faults per step, and the decrease of resident memory after the steps (bytes)."""
    printed = subprocess.run([sys.executable, "-c", CODE, way], check=True, capture_output=True, text=True).stdout.split()
    return float(printed[0]), int(printed[1])


@pytest.mark.skipif(sys.platform != "linux", reason="the setting is glibc's")
def test_freed_memory_is_reused_by_the_next_step_and_released_at_the_end() -> None:
    faults, released = faults_and_released("kept")
    assert faults < 100
    assert released > 20 << 20
    faults, _ = faults_and_released("plain")
    assert faults > 1000  # otherwise the test proves nothing
