"""SIGINT and SIGTERM as a request: the step under way is finished and saved. A second one interrupts at once."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


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
