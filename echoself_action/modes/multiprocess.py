"""Run a mode that trains in several processes: the main process does all of its work, the others only train with it."""

import sys
from collections.abc import Callable
from typing import TypeVar

import torch

from ..config.mode_inputs import TrainInputs
from ..errors import DivergedError, EchoselfError, LostProcessError
from ..exit_codes import exit_code_of
from ..training.distributed.launch import LOST, launch
from ..training.distributed.process_group import join_process_group
from ..training.distributed.rank import is_distributed, is_worker
from ..training.init_or_resume import receive_run
from ..training.result import stop_on_signals
from ..training.trainer import train_as_worker

T = TypeVar("T", bound=TrainInputs)


def run_in_processes(inputs: T, mode: Callable[[T], int]) -> int:
    """Run `mode` in the processes that torchrun started, or else in `processes` new ones; returns its exit code."""
    if is_distributed():
        return _run_rank(inputs, mode)
    processes = inputs.processes
    if not processes:
        processes = max(1, torch.cuda.device_count()) if inputs.device != "cpu" else 1
    return mode(inputs) if processes == 1 else launch(processes, _run_launched, inputs, mode)


def _run_launched(inputs: T, mode: Callable[[T], int]) -> int:
    """The entry point of a process started by `launch`, which itself reports which process was lost."""

    def work() -> int:
        try:
            return _run_rank(inputs, mode)
        except LostProcessError:
            return LOST

    return exit_code_of(work)


def _run_rank(inputs: T, mode: Callable[[T], int]) -> int:
    if not is_worker():
        return mode(inputs)
    try:
        with join_process_group() as process_group, stop_on_signals() as stop:
            run = receive_run(process_group)
            if run:
                train_as_worker(run, stop)
    except LostProcessError:
        raise
    except DivergedError:  # the main process rolls the run back
        return 0
    except EchoselfError as error:  # the main process reports an error of all processes
        print(f"a process beside the main one: {error}", file=sys.stderr)
        return error.exit_code
    return 0
