"""Out of memory, for real: a process that may have a few hundred megabytes more than its imports take."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from echoself_action.errors import is_out_of_memory

# one arena: each of glibc's takes 64 MB of address space, used or not
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
LIMITED = """
import resource, sys
import torch._dynamo  # PyTorch's optimizers load it when they are made
import echoself_action.modes.train
from echoself_action.__main__ import main
if megabytes := int(sys.argv[1]):
    size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
sys.exit(main(sys.argv[2:]))
"""
TRAIN = (
    "train --tokenizer bytes --data text.md --n-layer 4 --n-head 1 --n-embd 64 --block-size 128 --max-iters 2 --device cpu "
    "--learning-rate 1e-3 --dtype float32 --eval-tokens 1024"
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS counts on Linux alone")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "text.md").write_text("".join(f"Line {number} of a text to learn from.\n\n" for number in range(20_000)))
    return tmp_path


def train(workspace: Path, megabytes: int, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", LIMITED, str(megabytes), *" ".join((TRAIN, *words)).split()]
    environment = os.environ | ENVIRONMENT
    return subprocess.run(command, cwd=workspace, env=environment, capture_output=True, text=True, check=False)


def test_batches_are_halved_once_and_the_result_is_that_of_the_halved_settings(workspace: Path) -> None:
    said = "batches of 128 from now on, 2 a step: the same sequences, and the same result"
    for megabytes in (320, 280, 360, 240, 400, 440):  # enough for a half and not for a whole, which is PyTorch's to say
        shutil.rmtree(workspace / "halved", ignore_errors=True)
        ended = train(workspace, megabytes, "--batch-size 256 --output-dir halved")
        if (ended.returncode, ended.stdout.count("from now on")) == (0, 1):
            break
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count(said) == 1
    by_hand = train(workspace, 0, "--batch-size 128 --gradient-accumulation 2 --output-dir by-hand")
    assert "more memory" not in by_hand.stdout
    one, other = (load_file(workspace / name / "checkpoint-2/model.safetensors") for name in ("halved", "by-hand"))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_where_that_is_not_enough_the_numbers_are_said_and_what_to_change(workspace: Path) -> None:
    ended = train(workspace, 130, "--batch-size 128")
    assert ended.returncode == 3, ended.stdout + ended.stderr
    assert ended.stdout.count("batches of 64 from now on") == 1
    assert re.search(r"Step 1 needs more memory than there is \(.*\): [\d,]+ parameters .* take up to 0\.00 GB", ended.stderr)
    assert "logits of 64 sequences of 128 tokens over 257 words" in ended.stderr
    assert "Lower batch_size" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_batch_of_one_can_not_be_halved(workspace: Path) -> None:
    ended = train(workspace, 100, "--batch-size 1 --block-size 2048 --n-embd 256")
    assert ended.returncode == 3, ended.stdout + ended.stderr
    assert "batches of" not in ended.stdout
    assert "logits of 1 sequences" in ended.stderr


def test_a_model_that_memory_is_too_small_for_is_not_called_a_bug(workspace: Path) -> None:
    ended = train(workspace, 200, "--batch-size 1 --n-embd 4096")
    assert ended.returncode == 3, ended.stdout + ended.stderr
    assert "There is less memory than this takes" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    "code",
    [
        "torch.empty(2**36)",
        "torch.zeros(2**20, 2**8, requires_grad=True).exp().sum().backward()",
        "torch.optim.AdamW([with_gradient()]).step()",
        "numpy.zeros(2**36)",
        "bytes(2**38)",
    ],
)
def test_what_pytorch_numpy_and_python_raise_is_known(code: str) -> None:
    script = f"""
import resource, numpy, torch._dynamo
from echoself_action.errors import is_out_of_memory
def with_gradient():
    parameter = torch.nn.Parameter(torch.zeros(2**26))
    parameter.grad = torch.zeros(2**26)
    size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + 2**24,) * 2)
    return parameter
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 5 * 2**28 + 2**27, resource.RLIM_INFINITY))
try:
    {code}
except BaseException as error:
    assert is_out_of_memory(error), repr(error)
else:
    raise SystemExit("there was enough")
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), ValueError("can't allocate memory"), KeyError("x")])
def test_other_errors_are_not_taken_for_it(error: Exception) -> None:
    assert not is_out_of_memory(error)
