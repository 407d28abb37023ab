"""What a step frees, the next one has: its pages are not mapped anew. Afterwards the system has them."""

import subprocess
import sys

import pytest

# A step as a small model's: blocks of many sizes, freed in another order than they were taken, the last one large. Without the
# setting every block is mapped by itself: what is faulted in then does not hang on what lies at the end of the heap. Huge pages
# are off: a fault is a page.
CODE = """
import ctypes, resource, sys
from contextlib import nullcontext
import torch
from echoself_action.training.memory import freed_memory_kept
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
def step():
    blocks = [torch.ones((i % 7 + 1) << 16) for i in range(100)]
    blocks[::2] = [None] * 50
PR_SET_THP_DISABLE, M_MMAP_THRESHOLD = 41, -3
ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)
ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 17)
with freed_memory_kept() if sys.argv[1] == "kept" else nullcontext():
    for _ in range(3):
        step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        step()
    faults, during = (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 5, resident()
print(faults, during - resident())
"""


def faults_and_given_back(way: str) -> tuple[float, int]:
    """Page faults a step; bytes that the process has less of after the steps."""
    told = subprocess.run([sys.executable, "-c", CODE, way], check=True, capture_output=True, text=True).stdout.split()
    return float(told[0]), int(told[1])


@pytest.mark.skipif(sys.platform != "linux", reason="the setting is glibc's")
def test_a_step_has_the_memory_of_the_one_before_and_the_system_has_it_afterwards() -> None:
    faults, given_back = faults_and_given_back("kept")
    assert faults < 100
    assert given_back > 20 << 20
    faults, _ = faults_and_given_back("plain")
    assert faults > 1000  # else this test shows nothing
