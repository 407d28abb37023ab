"""Real out-of-memory errors, in processes limited to a few hundred megabytes more than their imports take."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from echoself_action.errors import is_out_of_memory

# one glibc arena, because each reserves 64 MB of address space
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
# runs each program in a forked process, which has the imports already: they take five seconds
FORKING = """
import gc, json, mmap, os, resource, sys
import numpy
import torch._dynamo  # PyTorch's optimizers load it when they are made
import echoself_action.modes.train
from echoself_action.__main__ import main
from echoself_action.errors import is_out_of_memory

def limit(more):
    size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))

gc.freeze()  # forked processes do not collect the objects of the imports
for line in sys.stdin:
    program, folder = json.loads(line)
    if not os.fork():
        os.chdir(folder)
        for descriptor, name in enumerate(("stdout", "stderr"), 1):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
        exec(program)
        sys.exit()
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""
TRAIN = (
    "train --tokenizer bytes --data text.md --n-layer 4 --n-head 1 --n-embd 64 --block-size 128 --max-iters 2 --device cpu "
    "--preset ci --learning-rate 1e-3 --dtype float32 --eval-tokens 1024"
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS is enforced on Linux only")


Program = Callable[[str], subprocess.CompletedProcess[str]]
Train = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def forking() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", FORKING]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=os.environ | ENVIRONMENT, stdin=pipe, stdout=pipe, text=True) as process:
        yield process
        process.communicate()  # closes stdin, which ends it


@pytest.fixture
def run(forking: subprocess.Popen[str], tmp_path: Path) -> Program:
    """Run a program, which may call `limit`, in a forked process."""

    def in_fork(program: str) -> subprocess.CompletedProcess[str]:
        assert forking.stdin
        assert forking.stdout
        forking.stdin.write(json.dumps([program, str(tmp_path)]) + "\n")
        forking.stdin.flush()
        code = int(forking.stdout.readline())
        return subprocess.CompletedProcess(program, code, *((tmp_path / name).read_text() for name in ("stdout", "stderr")))

    return in_fork


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "text.md").write_text("".join(f"Line {number} of a text to learn from.\n\n" for number in range(20_000)))
    return tmp_path


@pytest.fixture
def train(run: Program, workspace: Path) -> Train:
    """Train with a limit of so many megabytes; 0 is no limit."""

    def within(megabytes: int, *words: str) -> subprocess.CompletedProcess[str]:
        limited = f"limit({megabytes} * 2**20)\n" if megabytes else ""
        return run(f"{limited}sys.exit(main({' '.join((TRAIN, *words)).split()}))")

    return within


def test_out_of_memory_halves_the_batch_size_with_the_same_result(train: Train, workspace: Path) -> None:
    warning = "Training continues with batch_size: 128 and gradient_accumulation: 2, which gives the same result."
    for megabytes in (400, 360, 440, 320, 280, 240):  # one of them is enough for half a batch, not for a whole one
        shutil.rmtree(workspace / "halved", ignore_errors=True)
        ended = train(megabytes, "--batch-size 256 --output-dir halved")
        if (ended.returncode, ended.stdout.count("ran out of memory")) == (0, 1):
            break
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count(warning) == 1
    by_hand = train(0, "--batch-size 128 --gradient-accumulation 2 --output-dir by-hand")
    assert "out of memory" not in by_hand.stdout
    one, other = (load_file(workspace / name / "checkpoint-2/model.safetensors") for name in ("halved", "by-hand"))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_out_of_memory_with_halved_batches_is_an_error_with_estimates(train: Train) -> None:
    ended = train(130, "--batch-size 128")
    assert ended.returncode == 3, ended.stdout + ended.stderr
    assert ended.stdout.count("Training continues with batch_size: 64 and") == 1
    assert re.search(r"Step 1 needs more memory than is available \(.*\): [\d,]+ parameters .* up to 0\.00 GB", ended.stderr)
    assert "logits of 64 sequences of 128 tokens over a vocabulary of 257" in ended.stderr
    assert "Lower batch_size" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_batch_size_one_cannot_be_halved(train: Train) -> None:
    ended = train(100, "--batch-size 1 --block-size 2048 --n-embd 256")
    assert ended.returncode == 3, ended.stdout + ended.stderr
    assert "Training continues" not in ended.stdout
    assert "logits of 1 sequences" in ended.stderr


def test_model_larger_than_memory_is_not_reported_as_a_bug(train: Train) -> None:
    ended = train(200, "--batch-size 1 --n-embd 4096")
    assert ended.returncode == 3, ended.stdout + ended.stderr
    assert "Out of memory" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    "code",
    [
        "torch.empty(2**36)",
        "torch.zeros(2**20, 2**8, requires_grad=True).exp().sum().backward()",
        "torch.optim.AdamW([with_gradient()]).step()",
        "numpy.zeros(2**36)",
        "bytes(2**38)",
        "mmap.mmap(-1, 2**38)",
        "torch.UntypedStorage.from_file(sparse(2**33), False, 2**33)",  # as safetensors reads a file
    ],
)
def test_out_of_memory_errors_of_pytorch_numpy_and_python_are_recognised(run: Program, code: str) -> None:
    ended = run(f"""
def with_gradient():
    parameter = torch.nn.Parameter(torch.zeros(2**26))
    parameter.grad = torch.zeros(2**26)
    limit(2**24)
    return parameter

def sparse(size):
    with open("sparse", "wb") as file:
        file.truncate(size)
    return file.name

limit(5 * 2**28 + 2**27)
try:
    {code}
except BaseException as error:
    assert is_out_of_memory(error), repr(error)
else:
    raise SystemExit("no error was raised")
""")
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), ValueError("can't allocate memory"), KeyError("x")])
def test_other_errors_are_not_out_of_memory_errors(error: Exception) -> None:
    assert not is_out_of_memory(error)


def test_a_run_does_not_end_because_ppmd_lacks_memory(run: Program) -> None:
    ended = run(
        "from echoself_action.corpus.ppmd import CollectedText, ppmd_bits_per_byte\n"
        "import echoself_action.libraries as libraries\n"
        "libraries.pyppmd\n"
        "train, held_out = CollectedText(), CollectedText()\n"
        "train.add(bytes(4_000_000)); held_out.add(bytes(1000))\n"
        "print(ppmd_bits_per_byte(train, held_out) is None)\n"
        "limit(20 * 2**20)\n"
        "print(ppmd_bits_per_byte(train, held_out))"
    )
    assert (ended.returncode, ended.stdout) == (0, "False\nNone\n"), ended.stderr
