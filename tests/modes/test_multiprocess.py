"""A mode in several processes, as a user starts it: what it leaves, and what happens when one of them dies."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from echoself_action.checkpoint.model_folder import check_weights
from echoself_action.checkpoint.select import checkpoints, latest
from echoself_action.training.training_state import check_state

from ..conftest import Cli

SIZES = "--preset ci --tokenizer bytes --n-layer 1 --n-head 2 --n-embd 16 --block-size 16 --batch-size 4 --device cpu "
SIZES += "--dtype float32"
ENDLESS = f"train {SIZES} --max-iters 1000000 --max-minutes 0 --checkpoint-interval 5 --log-interval 5 --processes 2"
SECONDS = 120  # far more than anything here takes, on a machine with other things to do


@pytest.fixture
def running(workspace: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """The processes that a test starts: none of them outlives it."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def start(*words: str, python: str = "-m echoself_action", cwd: Path | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, *python.split(), *(part for word in words for part in word.split())]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def members(process: subprocess.Popen[str]) -> list[int]:
    """The processes that train, the lead first."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(child) for child in children if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text()]


def wait_for_a_checkpoint(process: subprocess.Popen[str], output_dir: Path = Path("echoself-model")) -> None:
    deadline = time.monotonic() + SECONDS
    while latest(output_dir) is None:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def whole_checkpoints() -> list[int]:
    """The steps of the checkpoints that are there, each of which is whole."""
    found = checkpoints(Path("echoself-model"))
    for folder in found:
        check_weights(folder)
        check_state(folder)
    return [folder.step for folder in found]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_the_run_with_its_checkpoints(
    rank: int, running: list[subprocess.Popen[str]], echoself: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    run = start(ENDLESS)
    running.append(run)
    wait_for_a_checkpoint(run)
    pids = members(run)
    os.kill(pids[rank], signal.SIGKILL)
    output, _ = run.communicate(timeout=SECONDS)
    assert run.returncode == 3, output
    assert f"echoself: Process {rank} of 2 was killed by SIGKILL. Training stopped; its checkpoints are kept." in output
    assert "Traceback" not in output
    assert all(map(gone, pids))
    steps = whole_checkpoints()
    echoself(ENDLESS.replace("--processes 2", "--processes 1").replace("1000000", "5"))
    assert f"start: echoself-model/checkpoint-{steps[-1]}" in capsys.readouterr().out


def test_all_processes_save_a_cancelled_run(running: list[subprocess.Popen[str]]) -> None:
    run = start(ENDLESS)
    running.append(run)
    wait_for_a_checkpoint(run)
    pids = members(run)
    run.send_signal(signal.SIGTERM)
    output, _ = run.communicate(timeout=SECONDS)
    assert run.returncode == 130, output
    assert "stopped_by=signal" in output
    assert f"stopped by signal at step {whole_checkpoints()[-1]}" in output
    assert all(map(gone, pids))


def test_processes_save_and_exit_if_their_parent_is_killed(running: list[subprocess.Popen[str]]) -> None:
    run = start(ENDLESS)
    running.append(run)
    wait_for_a_checkpoint(run)
    pids = members(run)
    before = whole_checkpoints()[-1]
    run.kill()
    deadline = time.monotonic() + SECONDS
    while not all(map(gone, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert whole_checkpoints()[-1] >= before


def test_torchrun_trains_one_model_on_several_machines(
    workspace: Path, tmp_path: Path, running: list[subprocess.Popen[str]]
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    elsewhere = tmp_path / "elsewhere"  # another machine needs neither the corpus nor the checkpoint
    elsewhere.mkdir()
    run = f"train {SIZES} --max-iters 10 --eval-interval 5"
    for rank, folder in enumerate((workspace, elsewhere)):
        machine = f"--nnodes 2 --node-rank {rank} --nproc-per-node 1 --master-addr 127.0.0.1 --master-port {port}"
        running.append(start(run, python=f"-m torch.distributed.run {machine} -m echoself_action", cwd=folder))
    (first, code), (second, other) = [(process.communicate(timeout=SECONDS)[0], process.returncode) for process in running]
    assert (code, other) == (0, 0), first + second
    assert "in 2 processes" in first
    assert "step=10" in first
    assert list(elsewhere.iterdir()) == []
    assert latest(workspace / "echoself-model").step == 10  # type: ignore[union-attr]


def test_a_batch_size_not_divisible_by_processes_is_refused_before_any_work(
    workspace: Path, running: list[subprocess.Popen[str]]
) -> None:
    run = start(ENDLESS.replace("--processes 2", "--processes 3"))
    running.append(run)
    output, _ = run.communicate(timeout=SECONDS)
    assert run.returncode == 2
    assert "--batch-size: 4 is not divisible by processes, 3." in output
    assert not Path("echoself-model").exists()


def test_a_model_that_auto_sizes_is_trained_by_two_processes_until_the_time_is_over(echoself: Cli) -> None:
    """Its tokenizer is sent to the other process, which has no time limit of its own."""
    outputs = echoself("train --max-minutes 0.15 --n-layer 1 --n-embd 32 --block-size 32 --device cpu --processes 2")
    assert outputs["stopped_by"] == "max_minutes"
    assert int(outputs["step"]) > 1
