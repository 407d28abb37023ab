"""The interface of a training run: callbacks, stop requests, and the result. It does not import PyTorch."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Literal

from ..checkpoint.metadata import Evaluation
from ..checkpoint.model_folder import ModelFolder

StoppedBy = Literal["max_iters", "max_minutes", "early_stopping", "signal"]
LOG_FILE = "log.jsonl"  # in output_dir: one line per Progress


@dataclass(frozen=True)
class Progress:
    """One logged step: one line of log.jsonl. `loss` is the mean over the last steps (see meters.py).

    Losses are in nats per token; `bits_per_byte` is `val_loss` in bits per byte. Both are None if the step was not evaluated.
    `end_step` is the last planned step, or the last that is expected to fit into the time limit, if that is earlier.
    `tokens_per_second` is the speed of the steps since the previous line. `elapsed_s` and `time_left_s` (an estimate) refer to
    this run.
    """

    step: int
    end_step: int
    loss: float
    val_loss: float | None
    lr: float
    tokens_per_second: float
    elapsed_s: float
    time_left_s: float
    bits_per_byte: float | None = None


@dataclass(frozen=True)
class Callbacks:
    """Receives events of a run: `progress` for each logged step, `warn` for warnings, `note` for log messages."""

    progress: Callable[[Progress], None]
    warn: Callable[[str], None]
    note: Callable[[str], None] = lambda _: None


@dataclass(frozen=True)
class Result:
    """The result of a run. `start_val_loss` is the validation loss of the model it resumed from; None for a new model.
    `best_before` is the lowest validation loss of the model before this run, on the same text. `planned_steps` is the
    number of steps of this run without a time limit; 0 if unknown.

    `tokens_per_second` is the speed of its steps, without evaluations, saves and compiling. `elapsed_s` includes `evaluating_s`
    (evaluations), `saving_s` (waiting for checkpoints) and `compiling_s` (torch.compile). `mfu` is the model FLOPs utilisation
    (Chowdhery et al. 2022), None if the device's peak is unknown.
    """

    latest: ModelFolder
    start_step: int
    start_val_loss: float | None
    best_before: Evaluation | None
    tokens_per_second: float
    elapsed_s: float
    evaluating_s: float
    saving_s: float
    stopped_by: StoppedBy
    compiling_s: float = 0.0
    planned_steps: int = 0
    mfu: float | None = None


class StopRequest:
    """Whether the run was asked to stop. It then finishes the current step and saves."""

    requested = False


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Handle SIGINT and SIGTERM inside the block: the first sets `requested`, the second raises KeyboardInterrupt."""
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
