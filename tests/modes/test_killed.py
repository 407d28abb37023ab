"""A few cells of the exactness matrix, with real processes; tests/stress/torture.py has all of them, and 200 kills."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from echoself_action.checkpoint.model_folder import ModelFolder
from echoself_action.checkpoint.select import latest
from echoself_action.config.inputs import DEFAULT_CONFIG

from ..conftest import SMALL, Cli

STEPS = 80
ROOT = Path(__file__).parents[2]
PHASES = "phases: [{name: a, share: 0.1}, {name: b, share: 0.8, learning_rate: 1.5, weights: {docs/*-0*.md: 0}}, {name: c}]"
TRAIN = f"train --tokenizer bytes {SMALL} --total-iters {STEPS} --warmup 0 --max-minutes 0 --log-interval 1 --data docs/*.md"


def newest(output_dir: str) -> ModelFolder:
    found = latest(Path(output_dir))
    assert found
    return found


def stopped(words: str, number: signal.Signals, step: int) -> int:
    """Start the command line as a process, send it a signal when it has logged `step`; its exit code."""
    settings = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "echoself_action", *words.split()]
    log = Path("echoself-model/log.jsonl")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=settings) as process:
        while process.poll() is None and (not log.exists() or log.read_text().count("\n") < step):
            time.sleep(0.002)
        process.send_signal(number)
        return process.wait(60)


@pytest.mark.parametrize(
    ("number", "code", "setting", "through_hub"),
    [
        (signal.SIGKILL, -9, "--dtype float32", False),
        (signal.SIGTERM, 130, "--dtype bfloat16 --dropout 0.1 --gradient-accumulation 3", True),
    ],
    ids=["killed, in its folder", "stopped, through the Hub"],
)
def test_a_run_stopped_in_a_phase_and_resumed_equals_an_uninterrupted_one(
    echoself: Cli, workspace: Path, number: signal.Signals, code: int, setting: str, through_hub: bool
) -> None:
    Path(DEFAULT_CONFIG).parent.mkdir()
    Path(DEFAULT_CONFIG).write_text(PHASES)
    echoself(f"{TRAIN} {setting} --max-iters {STEPS} --output-dir whole")
    assert stopped(f"{TRAIN} {setting} --max-iters {STEPS}", number, 25) == code
    at, place = newest("echoself-model").step, "echoself-model"
    assert 0 < at < STEPS
    if through_hub:
        echoself("deploy --hub hub --repo-id me/model")
        place = "elsewhere"
    echoself(f"{TRAIN} {setting} --max-iters {STEPS - at} --hub hub --repo-id me/model --output-dir {place}")
    for file in ("model.safetensors", "training_state/optimizer.safetensors"):
        resumed, whole = (load_file(newest(folder).path / file) for folder in (place, "whole"))
        assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())
