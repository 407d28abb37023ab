"""A mode that trains, in as many processes as are wanted: one of them does all of its work, and the others train along."""

import sys
from collections.abc import Callable

import torch

from ..config.inputs import Inputs
from ..errors import EchoselfError, LostProcessError
from ..exit_codes import exit_code_of
from ..training.distributed.launch import LOST, launch
from ..training.distributed.process_group import is_follower, is_started, joined
from ..training.init_or_resume import joining
from ..training.stop import stop_on_signals
from ..training.trainer import help_train


def together(inputs: Inputs, mode: Callable[[Inputs], int]) -> int:
    """The exit code of `mode`, in the processes that torchrun has started, or in those that `processes` asks for."""
    if is_started():
        return _take_part(inputs, mode)
    processes = inputs.processes
    if not processes:
        processes = max(1, torch.cuda.device_count()) if inputs.device != "cpu" else 1
    return mode(inputs) if processes == 1 else launch(processes, _launched, inputs, mode)


def _launched(inputs: Inputs, mode: Callable[[Inputs], int]) -> int:
    """What a process does that `launch` has started; it is `launch` that says who is gone."""

    def work() -> int:
        try:
            return _take_part(inputs, mode)
        except LostProcessError:
            return LOST

    return exit_code_of(work)


def _take_part(inputs: Inputs, mode: Callable[[Inputs], int]) -> int:
    if not is_follower():
        return mode(inputs)
    try:
        with joined() as team, stop_on_signals() as stop:
            help_train(joining(team), stop)
    except LostProcessError:
        raise
    except EchoselfError as error:  # where it is of all processes, the lead reports it
        print(f"a process beside the lead: {error}", file=sys.stderr)
        return error.exit_code
    return 0
