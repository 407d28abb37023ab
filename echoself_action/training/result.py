"""What a training run tells while it goes on, and what it leaves. It is read where nothing is trained: no PyTorch."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Literal

from ..checkpoint.model_folder import ModelFolder

StoppedBy = Literal["max_iters", "max_minutes", "signal"]
LOG_FILE = "log.jsonl"  # in output_dir: a line for each Progress


@dataclass(frozen=True)
class Progress:
    """One logged step, and one line of log.jsonl. `loss` is the mean since the line before; `val_loss` where evaluated.

    Losses are nats per token; `elapsed_s` and `time_left_s` (an estimate) are of this run.
    """

    step: int
    end_step: int
    loss: float
    val_loss: float | None
    lr: float
    tokens_per_second: float
    elapsed_s: float
    time_left_s: float


@dataclass(frozen=True)
class Callbacks:
    """Who hears of a run: of each logged step, of what should be looked at, and of what takes long."""

    progress: Callable[[Progress], None]
    warn: Callable[[str], None]
    note: Callable[[str], None] = lambda _: None


@dataclass(frozen=True)
class Result:
    """What a run leaves. `start_val_loss` is of the model it began with, on the same text; None for a fresh one.

    Of `elapsed_s`, `evaluating_s` is what evaluations took, `saving_s` how long the run waited for its checkpoints, and
    `compiling_s` what the compiler took; `mfu` (model FLOPs utilisation, Chowdhery et al. 2022) is the share of what the device
    can do by its data sheet, None where that is not known.
    """

    latest: ModelFolder
    start_step: int
    start_val_loss: float | None
    tokens_per_second: float
    elapsed_s: float
    evaluating_s: float
    saving_s: float
    stopped_by: StoppedBy
    compiling_s: float = 0.0
    mfu: float | None = None


class StopRequest:
    """Whether somebody asked the run to stop."""

    requested = False


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Inside the block, the first SIGINT or SIGTERM sets `requested`; the second raises KeyboardInterrupt."""
    stop = StopRequest()

    def handle(_number: int, _frame: FrameType | None) -> None:
        if stop.requested:
            raise KeyboardInterrupt
        stop.requested = True

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
